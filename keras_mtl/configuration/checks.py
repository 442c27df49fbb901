"""Checks of values: ranges, choices, and fields that must fit together.

All problems are reported together. `keras_mtl.data.reader_checks` adds those of
corpora, and `keras_mtl.training.run.planning` adds the checks that only training needs.
"""

import dataclasses
import itertools
import re
import unicodedata
from collections.abc import Sequence

from keras_mtl import errors, metrics
from keras_mtl.configuration import (
    adapter_checks,
    architecture_checks,
    architectures,
    initial_weights_checks,
    keeping_checks,
    learning_rates,
    optimizer_checks,
    other_task_checks,
    packing,
    quantization_checks,
    schema,
    search_checks,
    source_vocabulary,
    stack_sharing_checks,
    sublayers,
)
from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.model_sizes import resolved, sizes_of
from keras_mtl.configuration.search_options import NATIVE_ONLY
from keras_mtl.configuration.stack_sharing import SHARING

# A task's name becomes part of file names. Letters of all scripts are allowed.
_NAME = re.compile(r"[^\W_][\w.@+-]*")
# File systems allow 255 bytes; the rest is for endings such as `.train.store`.
_NAME_BYTES = 200
# A language becomes the tag <2xx> of the vocabulary. Codes of BCP 47 and of gettext are ASCII.
_LANGUAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]*")

# A language tag, a piece, and the end of sentence.
_LEAST_LENGTH = 3
_MOST_LENGTH = 65_535  # The store has 16 bits for a length.


# The values of `runtime.distribution_strategy`, with Model Garden's names.
STRATEGIES = ("off", "one_device", "mirrored", "multi_worker_mirrored", "tpu")

# Strategies that users may know from TensorFlow, and why they are not offered.
_REFUSED_STRATEGIES = {
    "parameter_server": (
        "the schedule and exact resuming need workers that train in step; use "
        "multi_worker_mirrored, with gradient_accumulation_steps for larger updates"
    ),
    "central_storage": "a copy of the weights on every device is faster; use mirrored",
}


def check_values(draft: Draft) -> None:
    """Adds to a draft what is wrong with its values; the tasks must be named."""
    _check_pairs(draft)
    _check_data(draft)
    other_task_checks.check(draft)
    _check_model(draft)
    source_vocabulary.check_tables(draft)
    _check_decoding(draft)
    _check_trainer(draft)
    _check_runtime(draft)
    stack_sharing_checks.check(draft)
    adapter_checks.check(draft)
    initial_weights_checks.check(draft)
    quantization_checks.check(draft)
    optimizer_checks.check(draft)


# Fields that a simulation does not read.
_NOT_SIMULATED = r"task\.(model|decoding|data\.corpora)|task\.pairs\[\d+\]\.\w*corpora|runtime"


def validate_simulation(draft: Draft, tasks_from_list: bool = False) -> schema.ExperimentConfig:
    """Checks what a simulation reads: it needs neither corpora nor a model.

    Args:
        draft: the configuration.
        tasks_from_list: whether the tasks come from a list of their own.

    Returns:
        The configuration.

    Raises:
        ConfigError: something is wrong; the message has a line for each problem.
    """
    check_values(draft)
    return draft.finish(rf"{_NOT_SIMULATED}|task\.pairs" if tasks_from_list else _NOT_SIMULATED)


def validate_data(pairs: Sequence[schema.PairConfig], data: schema.DataConfig) -> None:
    """Checks the sections that preparing data reads: `task.pairs` and `task.data`.

    Raises:
        ConfigError: something is wrong; the message has a line for each problem.
    """
    task = schema.TranslationConfig(pairs=list(pairs), data=data)
    draft = Draft(schema.ExperimentConfig(task=task))
    _check_pairs(draft)
    _check_data(draft)
    other_task_checks.check(draft)
    draft.finish()


def _check_pairs(draft: Draft) -> None:
    task = draft.config.task
    if not task.pairs:
        draft.problem(
            "task.pairs",
            "is empty; list at least one task, for example `- {source: en, target: fr}`",
        )
    _check_corpora(draft, "task.data.corpora", task.data.corpora)
    first: dict[str, int] = {}
    for index, pair in enumerate(task.pairs):
        path = f"task.pairs[{index}]"
        for side in ("source", "target"):
            language = getattr(pair, side)
            if not _LANGUAGE.fullmatch(language):
                draft.problem(
                    f"{path}.{side}",
                    f"= {language!r}: expected a language code such as en, pt_BR or sr-Latn",
                )
        _check_name(draft, f"{path}.name", pair.name)
        same = first.setdefault(_key(pair.name), index)
        if same != index:
            draft.problem(
                f"{path}.name",
                f"= {pair.name!r} is also the name of task.pairs[{same}], which is "
                f"{task.pairs[same].name!r}; names must differ in more than case",
            )
        draft.range(f"{path}.max_pairs", 1)
        draft.range(f"{path}.baseline", 0, low_open=True)
        draft.range(f"{path}.introduce_at", 0)
        draft.range(f"{path}.max_epochs", 0, low_open=True)
        if pair.stop_at is not None and pair.stop_at <= pair.introduce_at:
            draft.problem(
                f"{path}.stop_at",
                f"= {pair.stop_at}: must be above introduce_at = {pair.introduce_at}",
            )
        _check_cleaning(draft, f"{path}.cleaning")
        for name in ("corpora", "dev_corpora", "test_corpora"):
            _check_corpora(draft, f"{path}.{name}", getattr(pair, name))
        if not pair.corpora and not task.data.corpora:
            draft.problem(
                f"{path}.corpora",
                f"is empty and so is task.data.corpora, so task {pair.name!r} has no data; list a "
                "corpus in one of them",
            )


def _check_name(draft: Draft, path: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        draft.problem(
            path,
            f"= {name!r} cannot be part of a file name; use letters, digits and _ . @ + -, "
            "and begin with a letter or digit",
        )
    elif len(name.encode()) > _NAME_BYTES:
        draft.problem(
            path,
            f"= {name!r} is longer than {_NAME_BYTES} bytes in UTF-8, and it is part of file "
            "names; use a shorter name",
        )


def _key(name: str) -> str:
    """Returns a key that is equal for names that some file systems do not distinguish."""
    return unicodedata.normalize("NFC", name).casefold()


def _check_corpora(draft: Draft, path: str, corpora: Sequence[schema.CorpusConfig]) -> None:
    for index, corpus in enumerate(corpora):
        if not corpus.reader:
            draft.problem(
                f"{path}[{index}].reader", "is empty; name a reader, for example parallel"
            )


def _check_cleaning(draft: Draft, path: str) -> None:
    draft.range(f"{path}.max_characters", 1)
    draft.range(f"{path}.max_length_ratio", 1)
    draft.range(f"{path}.ratio_slack", 0)
    draft.range(f"{path}.max_bad_lines", 0, 1)


def _check_data(draft: Draft) -> None:
    data = draft.config.task.data
    for name in ("dev_fraction", "test_fraction"):
        draft.range(f"task.data.{name}", 0, 1, high_open=True)
    if max(data.dev_fraction, data.test_fraction) < 1 <= data.dev_fraction + data.test_fraction:
        draft.problem(
            "task.data.dev_fraction",
            f"= {data.dev_fraction} and test_fraction = {data.test_fraction} leave nothing to "
            "train on; their sum must be below 1",
        )
    draft.range("task.data.dev_pairs", 1)
    draft.range("task.data.test_pairs", 1)
    draft.range("task.data.shard_pairs", 1)
    draft.range("task.data.max_length", _LEAST_LENGTH, _MOST_LENGTH)
    draft.choice("task.data.granularity", ("batch", "example"))
    _check_cleaning(draft, "task.data.cleaning")
    source_vocabulary.check(draft)
    lengths = data.bucket_lengths
    if lengths and (lengths[0] < 1 or any(a >= b for a, b in itertools.pairwise(lengths))):
        draft.problem("task.data.bucket_lengths", f"= {lengths}: expected increasing lengths >= 1")
    elif lengths and lengths[-1] < data.max_length:
        draft.problem(
            "task.data.bucket_lengths",
            f"= {lengths}: the last one must be at least task.data.max_length = {data.max_length}",
        )
    packing.check(draft, data)
    if data.tokens_per_batch < data.max_length:
        draft.problem(
            "task.data.tokens_per_batch",
            f"= {data.tokens_per_batch}: must be at least task.data.max_length = "
            f"{data.max_length}, the tokens of one row",
        )


def _check_model(draft: Draft) -> None:
    model = draft.config.task.model
    architecture_checks.check(draft)
    sizes = (
        sizes_of(model.architecture) if model.architecture in architectures.ARCHITECTURES else {}
    )
    if sizes:
        draft.choice("task.model.size", tuple(sizes))
    for name in ("hidden_dim", "num_heads", "intermediate_dim", "encoder_layers", "decoder_layers"):
        draft.range(f"task.model.{name}", 1)
    if model.size in sizes:
        size = resolved(model)
        hidden_dim, num_heads = size["hidden_dim"], size["num_heads"]
        if num_heads > 0 and hidden_dim % num_heads:
            draft.problem(
                "task.model.hidden_dim",
                f"= {hidden_dim}: must be a multiple of task.model.num_heads = {num_heads}",
            )
        elif model.architecture == architectures.RNMT:
            pass
        elif model.positions == "sinusoidal" and hidden_dim % 2:
            draft.problem(
                "task.model.hidden_dim", f"= {hidden_dim}: must be even for sinusoidal positions"
            )
        elif model.positions == "rotary" and num_heads > 0 and hidden_dim // num_heads % 2:
            draft.problem(
                "task.model.hidden_dim",
                f"= {hidden_dim}: for rotary positions, the width of each of the {num_heads} heads "
                f"must be even, not {hidden_dim // num_heads}",
            )
    for name in ("dropout", "attention_dropout", "activation_dropout", "label_smoothing"):
        draft.range(f"task.model.{name}", 0, 1, high_open=True)
    draft.choice("task.model.activation", ("relu", "gelu", "silu"))
    draft.choice("task.model.norm_position", sublayers.NORM_POSITIONS)
    draft.choice("task.model.positions", sublayers.POSITIONS)
    draft.choice("task.model.sharing", SHARING)
    draft.range("task.model.logits_chunk", 0)
    draft.choice("task.model.recompute", ("none", "layer"))
    if model.max_length < draft.config.task.data.max_length:
        draft.problem(
            "task.model.max_length",
            f"= {model.max_length}: must be at least task.data.max_length = "
            f"{draft.config.task.data.max_length}, the longest sentence in tokens",
        )
    if model.sharing == "encoder" and draft.config.task.data.granularity == "example":
        draft.problem(
            "task.model.sharing",
            "= 'encoder' has a decoder for each target language, so each batch must be of one "
            "task; set task.data.granularity: batch",
        )


def _check_decoding(draft: Draft) -> None:
    decoding = draft.config.task.decoding
    draft.range("task.decoding.batch_size", 1)
    for name, text in search_checks.problems(decoding):
        draft.problem(f"task.decoding.{name}", f"= {getattr(decoding, name)!r}{text}")
    reason = sublayers.only_tensorflow(draft.config.task.model)
    if draft.config.trainer.evaluation.backend == "tf":
        reason = reason or "trainer.evaluation.backend is 'tf'"
    for field in dataclasses.fields(decoding):
        value = getattr(decoding, field.name)
        if reason and NATIVE_ONLY in field.metadata and value != field.default:
            draft.problem(
                f"task.decoding.{field.name}",
                f"= {value!r}: only the native search has this option, but {reason}; remove it",
            )
    if decoding.max_length > draft.config.task.model.max_length:
        draft.problem(
            "task.decoding.max_length",
            f"= {decoding.max_length}: must be at most task.model.max_length = "
            f"{draft.config.task.model.max_length}, the positions of the model",
        )


def _check_trainer(draft: Draft) -> None:
    for name in ("train_steps", "steps_per_loop", "checkpoint_interval", "max_to_keep"):
        draft.range(f"trainer.{name}", 1)
    keeping_checks.check(draft)
    _check_lag(draft, draft.config.trainer.evaluation)
    _check_engine(draft)
    names = [pair.name for pair in draft.config.task.pairs]
    for index, name in enumerate(draft.config.trainer.evaluation.tasks):
        if name not in names:
            draft.problem(
                f"trainer.evaluation.tasks[{index}]",
                f"= {name!r} is not a task{errors.nearest_task(name, names)}",
            )
    draft.range("trainer.evaluation.max_pairs", 1)
    draft.range("trainer.evaluation.max_tasks", 0)
    draft.range("trainer.evaluation.samples", 0)
    draft.range("trainer.evaluation.beam_size", 1)
    draft.range("trainer.evaluation.workers", 0, 1024)
    draft.choice("trainer.evaluation.backend", ("auto", "native", "tf"))
    draft.choice("trainer.evaluation.compute_type", ("float32", "int8"))
    draft.choice("trainer.evaluation.metric", metrics.available())
    for index, pair in enumerate(draft.config.task.pairs):
        if pair.metric:
            draft.choice(f"task.pairs[{index}].metric", metrics.available())
    draft.choice("trainer.schedule.draw", ("random", "blend"))
    draft.range("trainer.schedule.max_epochs", 0, low_open=True)
    draft.range("trainer.schedule.overfit_patience", 0)
    draft.choice("trainer.schedule.application", ("gradient", "learning_rate"))
    optimizer = "trainer.optimizer"
    settings, steps = draft.config.trainer.optimizer, draft.config.trainer.train_steps
    found = learning_rates.problems(
        settings.learning_rate_schedule,
        settings.warmup_steps,
        max(steps, 1),
        settings.learning_rate_parameters,
    )
    for field, text in found:
        draft.problem(f"{optimizer}.{field}", text)
    draft.range(f"{optimizer}.learning_rate", 0, low_open=True)
    draft.range(f"{optimizer}.warmup_steps", 1)
    for name in ("beta_1", "beta_2", "ema_momentum"):
        draft.range(f"{optimizer}.{name}", 0, 1, high_open=True)
    draft.range(f"{optimizer}.epsilon", 0, low_open=True)
    draft.range(f"{optimizer}.weight_decay", 0)
    draft.range(f"{optimizer}.global_clipnorm", 0)
    draft.range(f"{optimizer}.max_norm_deviation", 0)
    draft.range(f"{optimizer}.gradient_accumulation_steps", 1)
    if draft.config.trainer.optimizer.moments is not None:
        draft.choice(f"{optimizer}.moments", ("shared", "scaled", "per_task"))
    if not draft.config.trainer.schedule.name:
        draft.problem("trainer.schedule.name", "is empty; name a schedule, for example temperature")


def _check_lag(draft: Draft, evaluation: schema.EvaluationConfig) -> None:
    draft.range("trainer.evaluation.interval", 0)
    draft.range("trainer.evaluation.lag", 0)
    if evaluation.lag > evaluation.interval:
        draft.problem(
            "trainer.evaluation.lag",
            f"= {evaluation.lag}: scores must take effect before the next validation begins; give "
            f"at most trainer.evaluation.interval = {evaluation.interval}, or 0 to let training "
            "wait for each validation",
        )
    if evaluation.lag > 0 and evaluation.backend == "tf":
        draft.problem(
            "trainer.evaluation.lag",
            f"= {evaluation.lag}: trainer.evaluation.backend = 'tf' would compete with training "
            "for the device; set the backend to native, or the lag to 0",
        )


def _check_engine(draft: Draft) -> None:
    reason = sublayers.only_tensorflow(draft.config.task.model)
    if not reason:
        return
    remedies = {
        "backend": ("native", "auto or tf"),
        "compute_type": ("int8", "float32"),
    }
    for name, (value, remedy) in remedies.items():
        if getattr(draft.config.trainer.evaluation, name) == value:
            draft.problem(
                f"trainer.evaluation.{name}", f"= {value!r}: {reason}; set it to {remedy}"
            )
    if draft.config.trainer.evaluation.lag:
        draft.problem(
            "trainer.evaluation.lag",
            f"= {draft.config.trainer.evaluation.lag}: only the engine validates while training "
            f"continues; {reason}; set it to 0",
        )


def _check_strategy(draft: Draft) -> None:
    field = "runtime.distribution_strategy"
    name = draft.config.runtime.distribution_strategy
    if name in _REFUSED_STRATEGIES:
        draft.problem(field, f"= {name!r}: {_REFUSED_STRATEGIES[name]}")
    else:
        draft.choice(field, STRATEGIES)


def _check_runtime(draft: Draft) -> None:
    _check_strategy(draft)
    draft.choice("runtime.mixed_precision_dtype", ("float32", "mixed_bfloat16", "mixed_float16"))
    runtime = draft.config.runtime
    if runtime.mixed_precision_dtype == "mixed_float16" and runtime.distribution_strategy == "tpu":
        draft.problem(
            "runtime.mixed_precision_dtype",
            "= 'mixed_float16': TPUs compute in bfloat16; set it to mixed_bfloat16",
        )
    draft.range("runtime.num_replicas", 0)
    # Keyed generators take the seed as an unsigned 32-bit word.
    draft.range("runtime.seed", 0, 2**32 - 1)
