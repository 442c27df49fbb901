"""Checks of values: ranges, choices, and fields that must fit together.

All problems are reported together. `keras_mtl.configuration.training_checks` adds the checks that
only training and preparing need.
"""

import itertools
import re
import unicodedata
from collections.abc import Mapping, Sequence

from keras_mtl import errors, metrics
from keras_mtl.configuration import packing, schema, search_checks, sublayers
from keras_mtl.configuration.model_sizes import SIZES, resolved
from keras_mtl.configuration.problems import Problems

# A task's name becomes part of file names. Letters of all scripts are allowed.
_NAME = re.compile(r"[^\W_][\w.@+-]*")
# File systems allow 255 bytes; the rest is for endings such as `.train.store`.
_NAME_BYTES = 200
# A language becomes the tag <2xx> of the vocabulary. Codes of BCP 47 and of gettext are ASCII.
_LANGUAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]*")

# A language tag, a piece, and the end of sentence.
_LEAST_LENGTH = 3
_MOST_LENGTH = 65_535  # The store has 16 bits for a length.

_SPECIAL_IDS = 4  # <pad>, <s>, </s>, <unk>
_BYTE_PIECES = 256


def validate(config: schema.ExperimentConfig, places: Mapping[str, str] | None = None) -> None:
    """Checks a whole experiment.

    Args:
        config: the experiment, with the names of its tasks filled in.
        places: file and line that set each field, by dotted path, for messages.

    Raises:
        ConfigError: there is at least one problem; the message has a line for each.
    """
    checked(config, places).finish()


def checked(config: schema.ExperimentConfig, places: Mapping[str, str] | None = None) -> Problems:
    """Returns the problems that `validate` reports, so that the caller can add others."""
    check = Problems(config, places or {})
    _check_pairs(check, config)
    _check_data(check, config)
    _check_model(check, config)
    _check_decoding(check, config)
    _check_trainer(check, config)
    _check_runtime(check, config)
    return check


# Fields that a simulation does not read.
_NOT_SIMULATED = r"task\.(model|decoding|data\.corpora)|task\.pairs\[\d+\]\.\w*corpora|runtime"


def validate_simulation(
    config: schema.ExperimentConfig, places: Mapping[str, str] | None = None
) -> None:
    """Like `validate`, for a simulation, which reads neither corpora nor the model."""
    checked(config, places).finish(_NOT_SIMULATED)


def validate_simulation_of_list(
    config: schema.ExperimentConfig, places: Mapping[str, str] | None = None
) -> None:
    """Like `validate_simulation`, if the tasks come from a separate list."""
    checked(config, places).finish(rf"{_NOT_SIMULATED}|task\.pairs")


def validate_data(
    pairs: Sequence[schema.PairConfig],
    data: schema.DataConfig,
    places: Mapping[str, str] | None = None,
) -> None:
    """Checks the sections that preparing data reads: `task.pairs` and `task.data`.

    Raises:
        ConfigError: as for `validate`.
    """
    task = schema.TranslationConfig(pairs=list(pairs), data=data)
    check = Problems(schema.ExperimentConfig(task=task), places or {})
    _check_pairs(check, check.config)
    _check_data(check, check.config)
    check.finish()


def _check_pairs(check: Problems, config: schema.ExperimentConfig) -> None:
    task = config.task
    if not task.pairs:
        check.problem(
            "task.pairs",
            "is empty; list at least one task, for example `- {source: en, target: fr}`",
        )
    _check_corpora(check, "task.data.corpora", task.data.corpora)
    first: dict[str, int] = {}
    for index, pair in enumerate(task.pairs):
        path = f"task.pairs[{index}]"
        for side in ("source", "target"):
            language = getattr(pair, side)
            if not _LANGUAGE.fullmatch(language):
                check.problem(
                    f"{path}.{side}",
                    f"= {language!r}: expected a language code such as en, pt_BR or sr-Latn",
                )
        _check_name(check, f"{path}.name", pair.name)
        same = first.setdefault(_key(pair.name), index)
        if same != index:
            check.problem(
                f"{path}.name",
                f"= {pair.name!r} is also the name of task.pairs[{same}], which is "
                f"{task.pairs[same].name!r}; names must differ in more than case",
            )
        check.range(f"{path}.max_pairs", 1)
        check.range(f"{path}.baseline", 0, low_open=True)
        _check_cleaning(check, f"{path}.cleaning")
        for name in ("corpora", "dev_corpora", "test_corpora"):
            _check_corpora(check, f"{path}.{name}", getattr(pair, name))
        if not pair.corpora and not task.data.corpora:
            check.problem(
                f"{path}.corpora",
                f"is empty and so is task.data.corpora, so task {pair.name!r} has no data; list a "
                "corpus in one of them",
            )


def _check_name(check: Problems, path: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        check.problem(
            path,
            f"= {name!r} cannot be part of a file name; use letters, digits and _ . @ + -, "
            "and begin with a letter or digit",
        )
    elif len(name.encode()) > _NAME_BYTES:
        check.problem(
            path,
            f"= {name!r} is longer than {_NAME_BYTES} bytes in UTF-8, and it is part of file "
            "names; use a shorter name",
        )


def _key(name: str) -> str:
    """Returns a key that is equal for names that some file systems do not distinguish."""
    return unicodedata.normalize("NFC", name).casefold()


def _check_corpora(check: Problems, path: str, corpora: Sequence[schema.CorpusConfig]) -> None:
    for index, corpus in enumerate(corpora):
        if not corpus.reader:
            check.problem(
                f"{path}[{index}].reader", "is empty; name a reader, for example parallel"
            )


def _check_cleaning(check: Problems, path: str) -> None:
    check.range(f"{path}.max_characters", 1)
    check.range(f"{path}.max_length_ratio", 1)
    check.range(f"{path}.ratio_slack", 0)
    check.range(f"{path}.max_bad_lines", 0, 1)


def _check_data(check: Problems, config: schema.ExperimentConfig) -> None:
    data = config.task.data
    for name in ("dev_fraction", "test_fraction"):
        check.range(f"task.data.{name}", 0, 1, high_open=True)
    if max(data.dev_fraction, data.test_fraction) < 1 <= data.dev_fraction + data.test_fraction:
        check.problem(
            "task.data.dev_fraction",
            f"= {data.dev_fraction} and test_fraction = {data.test_fraction} leave nothing to "
            "train on; their sum must be below 1",
        )
    check.range("task.data.dev_pairs", 1)
    check.range("task.data.test_pairs", 1)
    check.range("task.data.max_length", _LEAST_LENGTH, _MOST_LENGTH)
    check.choice("task.data.granularity", ("batch", "example"))
    _check_cleaning(check, "task.data.cleaning")
    check.choice("task.data.vocabulary.model_type", ("unigram", "bpe"))
    check.range("task.data.vocabulary.temperature", 1)
    check.range("task.data.vocabulary.max_sentences", 1)
    check.range("task.data.vocabulary.character_coverage", 0, 1, low_open=True)
    targets = {pair.target for pair in config.task.pairs}
    least = _SPECIAL_IDS + _BYTE_PIECES + len(targets) + 1
    if not data.vocabulary.model_file and data.vocabulary.size < least:
        check.problem(
            "task.data.vocabulary.size",
            f"= {data.vocabulary.size}: {_SPECIAL_IDS} special ids, {_BYTE_PIECES} byte pieces and "
            f"{len(targets)} language tags need at least {least}",
        )
    lengths = data.bucket_lengths
    if lengths and (lengths[0] < 1 or any(a >= b for a, b in itertools.pairwise(lengths))):
        check.problem("task.data.bucket_lengths", f"= {lengths}: expected increasing lengths >= 1")
    elif lengths and lengths[-1] < data.max_length:
        check.problem(
            "task.data.bucket_lengths",
            f"= {lengths}: the last one must be at least task.data.max_length = {data.max_length}",
        )
    packing.check(check, data)
    if data.tokens_per_batch < data.max_length:
        check.problem(
            "task.data.tokens_per_batch",
            f"= {data.tokens_per_batch}: must be at least task.data.max_length = "
            f"{data.max_length}, the tokens of one row",
        )


def _check_model(check: Problems, config: schema.ExperimentConfig) -> None:
    model = config.task.model
    check.choice("task.model.size", tuple(SIZES))
    for name in ("hidden_dim", "num_heads", "intermediate_dim", "encoder_layers", "decoder_layers"):
        check.range(f"task.model.{name}", 1)
    if model.size in SIZES:
        size = resolved(model)
        hidden_dim, num_heads = size["hidden_dim"], size["num_heads"]
        if num_heads > 0 and hidden_dim % num_heads:
            check.problem(
                "task.model.hidden_dim",
                f"= {hidden_dim}: must be a multiple of task.model.num_heads = {num_heads}",
            )
        elif model.positions == "sinusoidal" and hidden_dim % 2:
            check.problem(
                "task.model.hidden_dim", f"= {hidden_dim}: must be even for sinusoidal positions"
            )
    for name in ("dropout", "attention_dropout", "activation_dropout", "label_smoothing"):
        check.range(f"task.model.{name}", 0, 1, high_open=True)
    check.choice("task.model.activation", ("relu", "gelu", "silu"))
    check.choice("task.model.positions", ("sinusoidal", "learned"))
    check.choice("task.model.sharing", ("full", "encoder"))
    if model.max_length < config.task.data.max_length:
        check.problem(
            "task.model.max_length",
            f"= {model.max_length}: must be at least task.data.max_length = "
            f"{config.task.data.max_length}, the longest sentence in tokens",
        )
    if model.sharing == "encoder" and config.task.data.granularity == "example":
        check.problem(
            "task.model.sharing",
            "= 'encoder' has a decoder for each target language, so each batch must be of one "
            "task; set task.data.granularity: batch",
        )


def _check_decoding(check: Problems, config: schema.ExperimentConfig) -> None:
    decoding = config.task.decoding
    check.range("task.decoding.batch_size", 1)
    for name, text in search_checks.problems(decoding):
        check.problem(f"task.decoding.{name}", f"= {getattr(decoding, name)!r}{text}")
    if decoding.max_length > config.task.model.max_length:
        check.problem(
            "task.decoding.max_length",
            f"= {decoding.max_length}: must be at most task.model.max_length = "
            f"{config.task.model.max_length}, the positions of the model",
        )


def _check_trainer(check: Problems, config: schema.ExperimentConfig) -> None:
    for name in ("train_steps", "steps_per_loop", "checkpoint_interval", "max_to_keep"):
        check.range(f"trainer.{name}", 1)
    _check_lag(check, config.trainer.evaluation)
    _check_engine(check, config)
    names = [pair.name for pair in config.task.pairs]
    for index, name in enumerate(config.trainer.evaluation.tasks):
        if name not in names:
            check.problem(
                f"trainer.evaluation.tasks[{index}]",
                f"= {name!r} is not a task{errors.nearest_task(name, names)}",
            )
    check.range("trainer.evaluation.max_pairs", 1)
    check.range("trainer.evaluation.beam_size", 1)
    check.range("trainer.evaluation.workers", 0, 1024)
    check.choice("trainer.evaluation.backend", ("auto", "native", "tf"))
    check.choice("trainer.evaluation.compute_type", ("float32", "int8"))
    check.choice("trainer.evaluation.metric", metrics.available())
    check.choice("trainer.schedule.draw", ("random", "blend"))
    check.choice("trainer.schedule.application", ("gradient", "learning_rate"))
    optimizer = "trainer.optimizer"
    check.choice(f"{optimizer}.learning_rate_schedule", ("transformer", "linear", "constant"))
    check.range(f"{optimizer}.learning_rate", 0, low_open=True)
    check.range(f"{optimizer}.warmup_steps", 1)
    warmup, steps = config.trainer.optimizer.warmup_steps, config.trainer.train_steps
    if config.trainer.optimizer.learning_rate_schedule == "linear" and warmup >= steps >= 1:
        check.problem(
            f"{optimizer}.warmup_steps",
            f"= {warmup}: with {optimizer}.learning_rate_schedule = 'linear' it must be below "
            f"trainer.train_steps = {steps}",
        )
    for name in ("beta_1", "beta_2", "ema_momentum"):
        check.range(f"{optimizer}.{name}", 0, 1, high_open=True)
    check.range(f"{optimizer}.epsilon", 0, low_open=True)
    check.range(f"{optimizer}.weight_decay", 0)
    check.range(f"{optimizer}.global_clipnorm", 0)
    check.range(f"{optimizer}.gradient_accumulation_steps", 1)
    if config.trainer.optimizer.moments is not None:
        check.choice(f"{optimizer}.moments", ("shared", "scaled", "per_task"))
    if not config.trainer.schedule.name:
        check.problem("trainer.schedule.name", "is empty; name a schedule, for example temperature")


def _check_lag(check: Problems, evaluation: schema.EvaluationConfig) -> None:
    check.range("trainer.evaluation.interval", 0)
    check.range("trainer.evaluation.lag", 0)
    if evaluation.lag > evaluation.interval:
        check.problem(
            "trainer.evaluation.lag",
            f"= {evaluation.lag}: scores must take effect before the next validation begins; give "
            f"at most trainer.evaluation.interval = {evaluation.interval}, or 0 to let training "
            "wait for each validation",
        )
    if evaluation.lag > 0 and evaluation.backend == "tf":
        check.problem(
            "trainer.evaluation.lag",
            f"= {evaluation.lag}: trainer.evaluation.backend = 'tf' would compete with training "
            "for the device; set the backend to native, or the lag to 0",
        )


def _check_engine(check: Problems, config: schema.ExperimentConfig) -> None:
    reason = sublayers.only_tensorflow(config.task.model)
    if not reason:
        return
    remedies = {
        "backend": ("native", "auto or tf"),
        "compute_type": ("int8", "float32"),
    }
    for name, (value, remedy) in remedies.items():
        if getattr(config.trainer.evaluation, name) == value:
            check.problem(
                f"trainer.evaluation.{name}", f"= {value!r}: {reason}; set it to {remedy}"
            )
    if config.trainer.evaluation.lag:
        check.problem(
            "trainer.evaluation.lag",
            f"= {config.trainer.evaluation.lag}: only the engine validates while training "
            f"continues; {reason}; set it to 0",
        )


def _check_runtime(check: Problems, config: schema.ExperimentConfig) -> None:
    check.choice("runtime.distribution_strategy", ("one_device", "mirrored", "tpu"))
    check.choice("runtime.mixed_precision_dtype", ("float32", "mixed_bfloat16", "mixed_float16"))
    runtime = config.runtime
    if runtime.mixed_precision_dtype == "mixed_float16" and runtime.distribution_strategy == "tpu":
        check.problem(
            "runtime.mixed_precision_dtype",
            "= 'mixed_float16': TPUs compute in bfloat16; set it to mixed_bfloat16",
        )
    check.range("runtime.num_replicas", 0)
    # Keyed generators take the seed as an unsigned 32-bit word.
    check.range("runtime.seed", 0, 2**32 - 1)
