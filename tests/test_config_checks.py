"""Checks of a configuration: ranges, choices, fields that must fit, names of components."""

import dataclasses
import functools

import pytest

from keras_mtl import errors
from keras_mtl.cli.inspect_trainer import trainer_lines
from keras_mtl.configuration import files
from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.schema import CleaningConfig, TaskCleaningConfig, as_dict
from keras_mtl.data.prepare_settings import cleaning_of
from keras_mtl.training.run.findings import find_notes
from keras_mtl.training.run.planning import check_preparing, plan_training
from tests.config_case import load, message

PROBLEMS = [
    ("task.pairs=[]", "task.pairs is empty"),
    (
        "task.pairs=[{source: en, target: fr}, {source: en, target: fr}]",
        "task.pairs[1].name = 'en-fr' is also the name of task.pairs[0]",
    ),
    ("task.pairs=[{source: en}]", "task.pairs[0].target = '': expected a language code"),
    ("task.pairs=[{source: e, target: f, name: -b}]", "'-b' cannot be part of a file name"),
    (f"task.pairs=[{{source: e, target: f, name: {'é' * 101}}}]", "longer than 200 bytes"),
    ("task.pairs=[{source: é, target: f}]", "source = 'é': expected a language code"),
    (
        "task.pairs=[{source: e, target: f, name: É}, {source: e, target: g, name: é}]",
        "task.pairs[1].name = 'é' is also the name of task.pairs[0], which is 'É'",
    ),
    ("task.pairs=[{source: e, target: f, name: a/b}]", "task.pairs[0].name = 'a/b'"),
    ("task.pairs=[{source: e, target: f, name: worst}]", "= 'worst' means a score of all tasks"),
    ("task.pairs=[{source: e, target: f, baseline: 0}]", "baseline = 0.0: must be > 0"),
    ("task.pairs=[{source: e, target: f, max_pairs: 0}]", "max_pairs = 0: must be >= 1"),
    ("task.data.corpora=[]", "task 'en-fr' has no data"),
    ("task.pairs=[{target: f, kind: denoise}]", "kind = 'denoise' is unknown; did you mean 'denoi"),
    (
        "task.pairs=[{source: e, target: f, noise: {drop: 0.2}}]",
        "is set, but the kind of task 'e-f",
    ),
    (
        "task.pairs=[{target: f, kind: denoising, noise: {method: mas}}]",
        "noise.method = 'mas' is unknown",
    ),
    (
        "task.pairs=[{target: f, kind: denoising, noise: {drop: 1.0}}]",
        "task.pairs[0].noise.drop = 1.0: must be >= 0 and < 1",
    ),
    (
        "task.pairs=[{target: f, kind: denoising, noise: {drop: 0, blank: 0, shuffle: 0}}]",
        "so the task would copy",
    ),
    ("task.data.subword_sampling.alpha=0", "subword_sampling.alpha = 0.0: must be > 0"),
    ("task.data.subword_sampling.side=left", "subword_sampling.side = 'left' is unknown"),
    ("task.data.corpora=[{options: {a: 1}}]", "task.data.corpora[0].reader is empty"),
    ("trainer.evaluation.tasks=[en-xx]", "tasks[0] = 'en-xx' is not a task; did you mean"),
    ("task.data.dev_fraction=1", "task.data.dev_fraction = 1.0: must be >= 0 and < 1"),
    ("task.data.dev_fraction=0.5,task.data.test_fraction=0.5", "leave nothing to train on"),
    ("task.data.granularity=exmple", "unknown; did you mean 'example'"),
    (
        "task.data.vocabulary.size=256",
        "task.data.vocabulary.size = 256: 4 special ids, 256",
    ),
    ("task.data.bucket_lengths=[16,8]", "expected increasing lengths"),
    ("task.data.packing=true,task.data.bucket_lengths=[128]", "packed batches have one shape"),
    ("task.data.packed_lengths=[128,128]", "has no effect without packing"),
    ("task.data.packing=true,task.data.packed_lengths=[128]", "the source and the target tokens"),
    ("task.data.packing=true,task.data.packed_lengths=[128,64]", "task.data.max_length = 128"),
    ("task.data.packing=true,task.data.packed_lengths=[128,8192]", "one row does not fit"),
    ("task.data.bucket_lengths=[16,32]", "must be at least task.data.max_length = 128"),
    ("task.data.tokens_per_batch=64", "task.data.tokens_per_batch = 64: must be at least"),
    ("task.model.size=tny", "task.model.size = 'tny' is unknown; did you mean 'tiny'?"),
    (
        "task.model.hidden_dim=10,task.model.num_heads=4",
        "must be a multiple of task.model.num_heads",
    ),
    ("task.model.dropout=1.0", "task.model.dropout = 1.0: must be >= 0 and < 1"),
    ("task.model.label_smoothing=.nan", "task.model.label_smoothing = nan: must be"),
    ("task.model.logits_chunk=-1", "task.model.logits_chunk = -1: must be >= 0"),
    ("task.model.recompute=layers", "task.model.recompute = 'layers' is unknown; did you mean"),
    ("task.model.max_length=64", "task.model.max_length = 64: must be at least"),
    (
        "task.model.sharing=encoder,task.data.granularity=example",
        "set task.data.granularity: batch",
    ),
    (
        "task.decoding.num_hypotheses=5",
        "task.decoding.num_hypotheses = 5 is above beam_size=4: a beam of k",
    ),
    ("task.decoding.length_penalty=powr", "did you mean 'power'"),
    (
        "task.decoding.merge_paths=true",
        "task.decoding.merge_paths = True requires eoc_id, the id of the empty token",
    ),
    (
        "task.decoding.merge_paths=true,task.decoding.eoc_id=3,trainer.evaluation.backend=tf",
        "task.decoding.merge_paths = True: only the native search has this option, but "
        "trainer.evaluation.backend is 'tf'; remove it",
    ),
    (
        "task.decoding.min_length=200",
        "task.decoding.min_length = 200 is above max_length=128",
    ),
    ("trainer.evaluation.metric=blue", "did you mean 'bleu'"),
    ("trainer.evaluation.lag=-1", "trainer.evaluation.lag = -1: must be >= 0"),
    (
        "trainer.evaluation.interval=100,trainer.evaluation.lag=101",
        "trainer.evaluation.lag = 101: scores must take effect before the next validation "
        "begins; give at most trainer.evaluation.interval = 100",
    ),
    (
        "trainer.evaluation.lag=10,trainer.evaluation.backend=tf",
        "trainer.evaluation.lag = 10: trainer.evaluation.backend = 'tf' would compete",
    ),
    (
        "trainer.optimizer.warmup_steps=0",
        "trainer.optimizer.warmup_steps = 0: must be >= 1",
    ),
    (
        "trainer.optimizer.learning_rate_schedule=linear,trainer.train_steps=4000",
        "warmup_steps = 4000: with trainer.optimizer.learning_rate_schedule = 'linear' it",
    ),
    (
        "task.pairs=[{source: e, target: f, introduce_at: 5, stop_at: 5}]",
        "task.pairs[0].stop_at = 5: must be above introduce_at = 5",
    ),
    ("task.pairs=[{source: e, target: f, max_epochs: 0}]", "max_epochs = 0.0: must be > 0"),
    ("trainer.schedule.max_epochs=0", "trainer.schedule.max_epochs = 0.0: must be > 0"),
    ("trainer.schedule.overfit_patience=-1", "overfit_patience = -1: must be >= 0"),
    (
        "trainer.schedule.overfit_patience=2,trainer.evaluation.interval=0",
        "trainer.schedule.overfit_patience = 2: trainer.evaluation.interval = 0 validates only at",
    ),
    ("trainer.checkpoint_minutes=-1", "trainer.checkpoint_minutes = -1.0: must be >= 0"),
    ("trainer.best={macro: 0}", "trainer.best.macro = 0: must be >= 1"),
    ("trainer.best={tasks: -1}", "trainer.best.tasks = -1: must be >= 0"),
    ("trainer.stopping.patience=-1", "trainer.stopping.patience = -1: must be >= 0"),
    ("trainer.stopping.score=wort", "score = 'wort' is neither macro nor worst nor a validated"),
    (
        "trainer.stopping.patience=2,trainer.evaluation.interval=0",
        "trainer.stopping.patience = 2: trainer.evaluation.interval = 0 validates only at the end",
    ),
    (
        "trainer.optimizer.learning_rate_schedule=cosine,"
        "trainer.optimizer.learning_rate_parameters={final: -1}",
        "trainer.optimizer.learning_rate_parameters.final = -1: give a number >= 0",
    ),
    ("trainer.optimizer.plateau.factor=1", "plateau.factor = 1.0: must be > 0 and < 1"),
    ("trainer.optimizer.plateau.score=x", "plateau.score = 'x' is neither macro nor worst"),
    ("trainer.optimizer.max_norm_deviation=-4", "max_norm_deviation = -4.0: must be >= 0"),
    ("task.data.max_length=2", "task.data.max_length = 2: must be >= 3 and <= 65535"),
    ("trainer.optimizer.beta_2=1", "trainer.optimizer.beta_2 = 1.0: must be >= 0 and < 1"),
    ("trainer.optimizer.learning_rate=.inf", "learning_rate = inf: must be > 0 and finite"),
    ("trainer.schedule.name=''", "trainer.schedule.name is empty"),
    ("runtime.seed=-1", "runtime.seed = -1: must be >= 0 and <= 4294967295"),
    ("runtime.distribution_strategy=tpus", "did you mean 'tpu'"),
    (
        "runtime.distribution_strategy=parameter_server",
        "= 'parameter_server': the schedule and exact resuming need workers that train in step; "
        "use multi_worker_mirrored",
    ),
    (
        "runtime.distribution_strategy=tpu,runtime.mixed_precision_dtype=mixed_float16",
        "runtime.mixed_precision_dtype = 'mixed_float16': TPUs compute in bfloat16",
    ),
]


@pytest.mark.parametrize(("params", "expected"), PROBLEMS)
def test_problem(params, expected):
    assert expected in message(params)


def test_names_of_tasks_may_have_letters_of_all_scripts():
    config = load("task.pairs=[{source: en, target: fr, name: en-français}]")
    assert config.task.pairs[0].name == "en-français"


def test_what_only_training_needs(tmp_path):
    """A run can be used when its schedule, readers or baselines file are not there."""
    path = tmp_path / "a.yaml"
    path.write_text(
        "trainer:\n  schedule:\n    name: invers_ratio\n    baselines_file: gone.json\n"
        "task:\n  pairs:\n  - {source: en, target: fr}\n  - {source: en, target: de}\n"
        "  data:\n    corpora:\n    - {reader: tsv, options: {fil: a.tsv}}\n"
        "    - {reader: tsv, options: {file: gone.tsv}}\n    - {reader: tvs}\n"
    )
    load(given=[path])
    with pytest.raises(errors.ConfigError) as error:
        files.load_experiment(None, [path], check=plan_training)
    expected = [
        "line 11: task.data.corpora[0].options: reader 'tsv' has no option 'fil'",
        "line 13: task.data.corpora[2].reader = 'tvs' is not known; did you mean 'tsv'",
        f"line 4: trainer.schedule.baselines_file '{tmp_path}/gone.json' does not exist",
        "line 3: trainer.schedule.name = 'invers_ratio' is not known",
    ]
    for line, text in zip(str(error.value).splitlines(), expected, strict=True):
        assert line.strip().startswith(f"{path} {text}")
    with pytest.raises(errors.ConfigError) as error:
        files.load_experiment(None, [path], check=check_preparing)
    assert len(str(error.value).splitlines()) == 2


def test_a_wrong_parameter_is_placed_where_it_was_set(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "trainer:\n  schedule:\n    name: temperature\n    parameters:\n      floor: 0.1\n"
        "      temperature: -1\n"
    )
    with pytest.raises(errors.ConfigError) as error:
        load(given=[path], check=plan_training)
    expected = "line 6: trainer.schedule.parameters: schedule 'temperature': temperature = -1 must"
    assert str(error.value).startswith(f"{path} {expected}")
    with pytest.raises(errors.ConfigError) as error:
        load("trainer.schedule.parameters.temprature=5", given=[path], check=plan_training)
    expected = "--params_override: trainer.schedule.parameters: schedule 'temperature' has no para"
    assert str(error.value).startswith(expected)


def test_every_validated_task_needs_dev_pairs():
    def train(*params, mode="train_and_eval"):
        check = functools.partial(plan_training, mode=mode)
        pairs = "task.pairs=[{source: en, target: fr}, {source: en, target: de}]"
        return load(pairs, "trainer.schedule.name=uniform", *params, check=check)

    train()
    with pytest.raises(errors.ConfigError) as error:
        train("task.data.dev_fraction=0")
    first, second = str(error.value).splitlines()
    assert "task.pairs[0].dev_corpora is empty and task.data.dev_fraction is 0, so tas" in first
    assert "so task 'en-de' cannot be validated" in second
    train("task.data.dev_fraction=0", mode="train")
    with pytest.raises(errors.ConfigError, match="so task 'en-de' cannot be validated"):
        train("task.data.dev_fraction=0,trainer.evaluation.tasks=[en-de]")


def test_a_schedule_that_adapts_to_scores_needs_them_all():
    def train(*params, mode="train_and_eval"):
        check = functools.partial(plan_training, mode=mode)
        pairs = (
            "task.pairs=[{source: en, target: fr, baseline: 20}, {source: en, target: de, "
            "baseline: 20}]"
        )
        return load(pairs, "trainer.schedule.name=inverse_ratio", *params, check=check)

    train()
    with pytest.raises(errors.ConfigError, match=r"evaluation\.tasks omits en-de, but the"):
        train("trainer.evaluation.tasks=[en-fr]")
    with pytest.raises(
        errors.ConfigError, match=r"'inverse_ratio' learns from .* --mode train_and_"
    ):
        train(mode="train")


def test_a_problem_of_a_default_is_placed_at_its_section(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("task:\n  pairs:\n  - source: en\n  - {source: en, target: fr}\n")
    with pytest.raises(errors.ConfigError) as error:
        files.load_experiment(None, [path])
    assert str(error.value).startswith(f"{path} line 3: task.pairs[0].target = ''")


def test_a_missing_corpus_is_no_problem_of_the_configuration():
    corpora = "task.data.corpora=[{reader: tsv, options: {file: gone.tsv}}]"
    load(corpora, "trainer.schedule.name=uniform", check=plan_training)


def test_all_problems_are_listed():
    text = message("runtime.seed=-1,trainer.train_steps=0,task.model.size=x")
    assert len(text.splitlines()) == 3


def test_all_wrong_keys_and_types_are_listed(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("trainer:\n  train_stps: 5\n  max_to_keep: many\n")
    lines = message("runtime.seed=x,a=1", given=[path]).splitlines()
    assert [line.split(":")[0].strip() for line in lines] == [
        f"{path} line 2",
        f"{path} line 3",
        "--params_override",
        "--params_override",
    ]


def test_wrong_keys_types_and_values_are_listed_together(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("trainer:\n  train_stps: 5\n  max_to_keep: 0\ntask: {model: {size: 3}}\n")
    lines = message("runtime.seed=-1", given=[path]).splitlines()
    assert [line.strip().removeprefix(f"{path} ").split(" is ")[0] for line in lines] == [
        "line 2: trainer.train_stps",
        "line 4: task.model.size = 3",
        "line 3: trainer.max_to_keep = 0: must be >= 1",
        "--params_override: runtime.seed = -1: must be >= 0 and <= 4294967295",
    ]


def test_what_only_follows_from_an_unreadable_field_is_left_out():
    short = "task.model.max_length=64,task.decoding.max_length=64"  # Data has 128 by default.
    assert len(message(short).splitlines()) == 1
    assert message(f"task.data.max_length=long,{short}").endswith(
        "'long' is a string; expected an integer"
    )
    # Without the typing error the configuration would have this field.
    linear = "trainer.optimizer={learning_rate_schedule: linear, warmup_stps: 10}"
    assert len(message(f"{linear},trainer.train_steps=100").splitlines()) == 1
    assert len(message("task.data.bucket_lengths=[8, x],task.data.max_length=64").splitlines()) == 1


def test_only_on_request():
    assert load("runtime.seed=-1", check=None).runtime.seed == -1


def test_a_task_overrides_single_cleaning_rules():
    config = load(
        "task.data.cleaning.ratio_slack=20",
        "task.pairs=[{source: en, target: zh, cleaning: {max_length_ratio: 3}}, "
        "{source: en, target: fr}]",
    )
    data = config.task.data
    first, second = (cleaning_of(pair, data) for pair in config.task.pairs)
    assert first == CleaningConfig(max_length_ratio=3.0, ratio_slack=20)
    assert second == data.cleaning
    with pytest.raises(errors.ConfigError, match=r"pairs\[0\]\.cleaning\.max_length_ratio = 0\.5"):
        load("task.pairs=[{source: en, target: zh, cleaning: {max_length_ratio: 0.5}}]")


def test_a_tasks_cleaning_has_the_fields_of_the_shared_one():
    rules, own = (
        {field.name: field.type for field in dataclasses.fields(section)}
        for section in (CleaningConfig, TaskCleaningConfig)
    )
    assert own == {name: hint | None for name, hint in rules.items()}
    assert set(as_dict(TaskCleaningConfig()).values()) == {None}


def test_some_task_must_be_drawn_at_every_step(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "task:\n  pairs:\n  - {source: en, target: fr, stop_at: 10}\n"
        "  - {source: en, target: de, introduce_at: 20}\n"
        "  data: {corpora: [{reader: cldr, options: {pairs: 99}}]}\n"
        "trainer: {train_steps: 100, optimizer: {gradient_accumulation_steps: 2}}\n"
    )
    with pytest.raises(errors.ConfigError, match="no task is drawn at step 10: introduce_at and"):
        files.load_experiment(None, [path], check=plan_training)
    path.write_text(path.read_text().replace("introduce_at: 20", "introduce_at: 10"))
    files.load_experiment(None, [path], check=plan_training)


def test_tasks_that_the_schedule_never_draws_leave_steps_without_a_task():
    pairs = "[{source: en, target: fr}, {source: en, target: de, introduce_at: 5}]"
    params = (
        f"task.pairs={pairs},trainer.schedule={{name: constant, parameters: {{weights: [0, 1]}}}}"
    )
    found = message(params, check=plan_training)
    assert "no task is drawn at step 0: introduce_at and stop_at leave none, and" in found
    assert "the schedule never draws en-fr. Let the limits of tasks overlap" in found
    load(params.replace("[0, 1]", "[1, 0]"), check=plan_training)


@pytest.mark.parametrize(
    "limit", ["trainer.schedule.overfit_patience=3", "trainer.schedule.max_epochs=3"]
)
def test_a_name_that_two_tasks_have_is_the_only_problem(limit):
    found = message(
        "task.pairs=[{source: en, target: fr}, {source: en, target: fr, introduce_at: 2}]",
        limit,
        check=plan_training,
    )
    assert "task.pairs[1].name = 'en-fr' is also the name of task.pairs[0]" in found
    assert len(found.splitlines()) == 1


def test_limits_that_keep_a_stage_from_ending_are_an_error():
    until = "{name: uniform, until: {task: en-de, epochs: 3}}"
    stages = f"{{stages: [{{name: uniform, steps: 40}}, {until}, {{name: proportional}}]}}"

    def limited(limits):
        return (
            f"task.pairs=[{{source: en, target: fr}}, {{source: en, target: de, {limits}}}],"
            f"trainer.schedule={{name: piecewise, parameters: {stages}}},"
            "trainer.optimizer.gradient_accumulation_steps=2"
        )

    found = message(limited("max_epochs: 2"), check=plan_training)
    assert "trainer.schedule.parameters: schedule 'piecewise': stages[1].until" in found
    assert "until.epochs = 3 is above max_epochs = 2 of task 'en-de'" in found
    assert "Use at most 2, or raise max_epochs" in found
    found = message(limited("stop_at: 20"), check=plan_training)
    assert "stages[1].until.task = 'en-de' is not drawn in this stage: its stop_at ends it" in found
    assert "after 40 batches, and the stage begins after 40 or more" in found
    load(limited("max_epochs: 3, stop_at: 21"), check=plan_training)


def test_a_task_that_is_never_trained_is_noted():
    pairs = "[{source: en, target: fr}, {source: en, target: de, introduce_at: 100}]"
    config = load(f"task.pairs={pairs},trainer.train_steps=100")
    note = "task 'en-de' is never trained: its introduce_at = 100 is not below trainer.train_steps"
    assert plan_training(Draft(config)).notes[0].startswith(note)
    assert find_notes(config, None)[0].startswith(note)
    config.trainer.train_steps = 101
    assert not find_notes(config, None)


@pytest.mark.parametrize(
    ("optimizer", "peak"),
    [
        ("{learning_rate_schedule: linear, learning_rate: 1.0}", "1,"),
        # 2 / sqrt(128 * 300) for a tiny model.
        ("{learning_rate: 2.0, warmup_steps: 300}", "0.0102,"),
        ("{learning_rate: 1.0, warmup_steps: 300}", None),
        ("{learning_rate: 2.0, warmup_steps: 4000}", None),
        ("{name: SGD, learning_rate_schedule: linear, learning_rate: 1.0}", None),
    ],
)
def test_a_high_learning_rate_is_noted(optimizer, peak):
    config = load(f"task.model.size=tiny,trainer.optimizer={optimizer},trainer.train_steps=5000")
    expected = [] if peak is None else [f"the learning rate rises to {peak} which is high for adam"]
    for notes in (plan_training(Draft(config)).notes, find_notes(config, None)):
        assert [note.split(":")[0] for note in notes] == expected


def test_inspect_has_a_line_for_each_setting_of_training():
    pairs = "[{source: en, target: fr}, {source: en, target: zh, metric: bleu_zh, stop_at: 9}]"
    config = load(
        f"task.pairs={pairs},trainer.evaluation.max_tasks=1,task.model.recompute=layer,"
        "task.model.logits_chunk=2048,trainer.stopping.patience=3,trainer.best.tasks=2"
    )
    assert trainer_lines(config) == [
        "limits of en-zh: until step 9",
        "metrics: en-fr: chrf, en-zh: bleu_zh",
        "tasks of a validation: at most 1",
        "best weights: 1 on average over tasks, 0 for the worst task, 2 for each task",
        "early stopping: when the score 'macro' has not improved in 3 validations",
        "memory: logits of 2,048 positions of a device at a time",
        "memory: the backward pass computes each layer again",
    ]
