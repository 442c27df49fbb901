"""Experiments, overrides, checks, the saved configuration and differences."""

import dataclasses
import os
from pathlib import Path

import pytest

from keras_mtl import errors
from keras_mtl.configuration import files, presets, reading
from keras_mtl.configuration import overriding as overrides
from keras_mtl.configuration.model_sizes import SIZES
from keras_mtl.configuration.schema import (
    CleaningConfig,
    CorpusConfig,
    PairConfig,
    TaskCleaningConfig,
    as_dict,
)
from keras_mtl.data.prepare_settings import cleaning_of

# The least that makes a configuration valid.
MINIMAL = "task: {pairs: [{source: en, target: fr}], data: {corpora: [{reader: cldr}]}}"


def load(*params, given=(), **options):
    return files.load_experiment(None, given, [MINIMAL, *params], **options)


def message(*params, **options):
    with pytest.raises(errors.ConfigError) as error:
        load(*params, **options)
    return str(error.value)


class TestExperiments:
    def test_each_size_has_a_valid_preset(self):
        assert presets.available() == [
            "translation/transformer",
            *(f"translation/transformer_{size}" for size in sorted(SIZES)),
        ]
        for name in presets.available():
            config = presets.preset(name)
            overrides.apply(config, reading.from_yaml(MINIMAL, "test"))
            files.name_tasks(config)
            files.validate(config)

    def test_default_and_family_name(self):
        plain = as_dict(presets.preset("translation/transformer"))
        assert as_dict(presets.preset()) == plain
        assert as_dict(presets.preset("translation")) == plain

    def test_unknown_names_the_nearest(self):
        with pytest.raises(errors.ConfigError, match="did you mean 'translation/transformer_tiny'"):
            presets.preset("translation/transformer_tny")

    def test_a_preset_that_is_no_experiment_is_refused(self, monkeypatch):
        monkeypatch.setattr(presets, "_PRESETS", {})
        presets.register_preset("translation/mine")(dict)
        with pytest.raises(errors.ConfigError, match=r"'translation/mine' returns builtins\.dict"):
            presets.preset("translation/mine")

    def test_names_of_presets(self, monkeypatch):
        monkeypatch.setattr(presets, "_PRESETS", dict(presets._PRESETS))
        with pytest.raises(errors.ConfigError, match=r"'translation/transformer' .*is taken by"):
            presets.register_preset("translation/transformer")(dict)

    def test_each_call_returns_a_new_configuration(self):
        presets.preset().task.pairs.append(PairConfig())
        presets.preset().trainer.schedule.parameters["alpha"] = 1
        assert not presets.preset().task.pairs
        assert not presets.preset().trainer.schedule.parameters

    def test_a_misspelled_field_cannot_be_set(self):
        with pytest.raises(AttributeError, match="train_stps"):
            presets.preset().trainer.train_stps = 5
        with pytest.raises(AttributeError, match="beam"):
            presets.preset().task.decoding.beam = 5


class TestOverrides:
    def test_order_is_experiment_files_overrides(self, tmp_path):
        first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
        first.write_text("trainer: {train_steps: 10, steps_per_loop: 10}\nruntime: {seed: 10}")
        second.write_text("trainer: {train_steps: 20, steps_per_loop: 20}")
        config = load("trainer.train_steps=30", given=[first, second])
        assert config.trainer.train_steps == 30
        assert config.trainer.steps_per_loop == 20
        assert config.runtime.seed == 10

    def test_assignments_take_yaml_values(self):
        config = load(
            "trainer.optimizer.epsilon=1e-8, trainer.train_steps=1e3,"
            "task.data.bucket_lengths=[32,64,128], task.data.data_dir='a,b=c',"
            "trainer.schedule.parameters.alpha=2,runtime.deterministic=false"
        )
        assert config.trainer.optimizer.epsilon == 1e-8
        assert config.trainer.train_steps == 1000
        assert isinstance(config.trainer.train_steps, int)
        assert config.task.data.bucket_lengths == [32, 64, 128]
        assert config.task.data.data_dir == os.path.abspath("a,b=c")
        assert config.trainer.schedule.parameters == {"alpha": 2}
        assert config.runtime.deterministic is False

    def test_override_may_be_a_file(self, tmp_path):
        path = tmp_path / "override.yaml"
        path.write_text("runtime: {seed: 5}")
        assert load(str(path)).runtime.seed == 5

    def test_lists_are_replaced_whole_with_typed_elements(self):
        config = load(
            "task.pairs=[{source: en, target: de, max_pairs: 5}, {source: en, target: it}]",
            "task.pairs=[{source: en, target: es}, {source: en, target: pt}]",
        )
        assert [pair.name for pair in config.task.pairs] == ["en-es", "en-pt"]
        assert [pair.max_pairs for pair in config.task.pairs] == [None, None]
        assert all(isinstance(pair, PairConfig) for pair in config.task.pairs)
        assert load("task.data.corpora=[{reader: tsv}]").task.data.corpora[0].reader == "tsv"

    def test_options_are_free_and_nested(self):
        config = load("task.data.corpora=[{reader: x, options: {a: [1, 2], b: {c: null}, no: 1}}]")
        options = config.task.data.corpora[0].options
        assert options == {"a": [1, 2], "b": {"c": None}, "no": 1}

    def test_options_merge_until_their_component_changes(self):
        schedule = "trainer.schedule"
        first = f"{schedule}={{name: inverse_ratio, parameters: {{alpha: 2, epsilon: 0.1}}}}"
        merged = load(first, f"{schedule}.parameters.alpha=3").trainer.schedule.parameters
        assert merged == {"alpha": 3, "epsilon": 0.1}
        same = load(first, f"{schedule}.name=inverse_ratio").trainer.schedule.parameters
        assert same == {"alpha": 2, "epsilon": 0.1}
        assert load(first, f"{schedule}.name=uniform").trainer.schedule.parameters == {}
        emptied = load(first, f"{schedule}.parameters={{}}").trainer.schedule.parameters
        assert emptied == {}

    def test_lists_inside_options_are_replaced_whole(self):
        stages = "trainer.schedule.parameters.stages"
        first = (
            f"trainer.schedule.name=piecewise,{stages}=[{{name: temperature, steps: 9, "
            "parameters: {temperature: 5}}, {name: temperature, parameters: {floor: 0.1}}]"
        )
        later = f"{stages}=[{{name: temperature, parameters: {{cap: 7}}, steps: 3}}, {{name: x}}]"
        found = load(first, later, check=False).trainer.schedule.parameters["stages"]
        assert found == [
            {"name": "temperature", "parameters": {"cap": 7}, "steps": 3},
            {"name": "x"},
        ]

    def test_mappings_inside_options_are_merged(self):
        weights = "trainer.schedule.parameters.weights"
        first = f"trainer.schedule.name=constant,{weights}={{en-fr: 1}}"
        both = load(first, f"{weights}={{en-de: 2}}", check=False).trainer.schedule.parameters
        assert both == {"weights": {"en-fr": 1, "en-de": 2}}
        none = load(first, f"{weights}={{}}", check=False).trainer.schedule.parameters
        assert none == {"weights": {}}

    def test_empty_sections_and_files_change_nothing(self, tmp_path):
        path = tmp_path / "empty.yaml"
        path.write_text("# only a comment\n")
        assert as_dict(load("trainer:", given=[path])) == as_dict(load())

    @pytest.mark.parametrize("field", ["trainer.schedule.baselines_file", "task.data.data_dir"])
    def test_an_empty_assignment_empties_a_text(self, field, tmp_path):
        def value(config):
            for name in field.split("."):
                config = getattr(config, name)
            return config

        assert value(load(f"{field}=a.json", f"{field}=")) == ""
        assert value(load(f"{field}=a.json", f"{field}=,runtime.seed=2")) == ""
        *sections, name = field.split(".")
        (tmp_path / "a.yaml").write_text(
            "".join(f"{'  ' * i}{each}:\n" for i, each in enumerate([*sections, name]))
        )
        assert value(load(f"{field}=a.json", str(tmp_path / "a.yaml"))) == ""

    def test_an_empty_assignment_of_other_fields(self):
        config = load("trainer.optimizer.moments=shared", "trainer.optimizer.moments=")
        assert config.trainer.optimizer.moments is None
        assert "train_steps = null is empty; expected an integer" in message("trainer.train_steps=")
        assert "tasks[0] = null is empty; expected" in message("trainer.evaluation.tasks=[null]")

    def test_optional_fields_take_null(self):
        assert load("task.model.dropout=0.2").task.model.dropout == 0.2
        assert load("task.model.dropout=0.2", "task.model.dropout=null").task.model.dropout is None

    def test_anchors(self, tmp_path):
        path = tmp_path / "a.yaml"
        path.write_text(
            "task:\n  pairs:\n  - &first {source: en, target: fr, max_pairs: 7}\n"
            "  - {<<: *first, target: de}\n"
        )
        pairs = load(given=[]).task.pairs
        pairs = files.load_experiment(None, [path], "task.data.corpora=[{reader: x}]").task.pairs
        assert [(pair.target, pair.max_pairs) for pair in pairs] == [("fr", 7), ("de", 7)]


class TestMessages:
    """Each names the place, the field, the value and the remedy."""

    @pytest.mark.parametrize(
        ("params", "expected"),
        [
            ("trainer.train_stps=5", "trainer.train_stps is unknown; did you mean 'train_steps'?"),
            ("train_steps=5", "train_steps is unknown; did you mean trainer.train_steps?"),
            ("trainer.schedule.parameters.a=2026-01-01", "a = datetime.date(2026, 1, 1) is a date"),
            ("trainer.train_steps=many", "trainer.train_steps = 'many' is a text; expected an int"),
            ("trainer.train_steps=1.5", "trainer.train_steps = 1.5 is a number; expected an int"),
            ("runtime.deterministic=1", "= 1 is an integer; expected true or false"),
            ("runtime.seed=true", "runtime.seed = True is a boolean; expected an integer"),
            ("task.model=base", "task.model = 'base' is a text; expected a mapping"),
            (
                "task.pairs={source: en}",
                "task.pairs = {'source': 'en'} is a mapping; expected a li",
            ),
            ("task.pairs=[en-fr]", "task.pairs[0] = 'en-fr' is a text; expected a mapping"),
            ("task.data.bucket_lengths=[8, x]", "task.data.bucket_lengths[1] = 'x' is a text"),
            ("task.pairs=[{source: en, target: no}]", "put it in quotes: 'no'"),
            ("runtime.seed=1,runtime.seed=2", "runtime.seed is set twice"),
            ("runtime.seed=1,runtime.seed.x=2", "runtime.seed.x is set twice"),
            ("runtime.seed=[1", "has an unclosed quote or bracket"),
            ("runtime.seed=1,5", "'5' is no assignment; write field.subfield=value"),
            ("[seed]", "'[seed]' is neither FIELD=VALUE nor a YAML file"),
        ],
    )
    def test_override(self, params, expected):
        text = message(params)
        assert text.startswith("--params_override: ")
        assert expected in text

    @pytest.mark.parametrize(
        ("text", "line", "expected"),
        [
            ("a: 1\n", 1, "a is unknown"),
            ("trainer:\n  train_steps: x\n", 2, "trainer.train_steps = 'x'"),
            ("trainer:\n  train_steps: 1\n  train_steps: 2\n", 3, "a second time; the first is in"),
            ("trainer:\n  train_steps: [1\nx: 2\n", 3, "not valid YAML: expected ',' or ']'"),
            ("task:\n  pairs:\n  - source: en\n    target: no\n", 4, "put it in quotes: 'no'"),
            ("? [1]\n: 2\n", 1, "a key must be a plain word"),
            ("task: !!python/object:os.system {}\n", 1, "os.system' is not known"),
            ("runtime: {seed: !!python/name:os.system x}\n", 1, "not valid YAML"),
            ("trainer: {train_steps: 0}\n", 1, "trainer.train_steps = 0: must be >= 1"),
        ],
    )
    def test_file_and_line(self, tmp_path, text, line, expected):
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        problem = message(given=[path])
        assert problem.startswith(f"{path} line {line}")
        assert expected in problem

    def test_alias_that_contains_itself(self, tmp_path):
        path = tmp_path / "loop.yaml"
        path.write_text("task: &a\n  model: *a\n")
        assert "nested too deeply" in message(given=[path])

    def test_unreadable_files(self, tmp_path):
        assert "no such configuration file" in message(given=[tmp_path / "none.yaml"])
        (tmp_path / "latin.yaml").write_bytes(b"task: {pairs: []} # \xe9")
        assert "not UTF-8 at byte 20" in message(given=[tmp_path / "latin.yaml"])
        assert "cannot be read" in message(given=[tmp_path])


class TestValidation:
    @pytest.mark.parametrize(
        ("params", "expected"),
        [
            ("task.pairs=[]", "task.pairs is empty"),
            (
                "task.pairs=[{source: en, target: fr}, {source: en, target: fr}]",
                "task.pairs[1].name = 'en-fr' is also the name of task.pairs[0]",
            ),
            ("task.pairs=[{source: en}]", "task.pairs[0].target = '': expected a language code"),
            ("task.pairs=[{source: e, target: f, name: -b}]", "'-b' cannot be a part of a file's"),
            (f"task.pairs=[{{source: e, target: f, name: {'é' * 101}}}]", "longer than 200 bytes"),
            ("task.pairs=[{source: é, target: f}]", "source = 'é': expected a language code"),
            (
                "task.pairs=[{source: e, target: f, name: É}, {source: e, target: g, name: é}]",
                "task.pairs[1].name = 'é' is also the name of task.pairs[0], which is 'É'",
            ),
            ("task.pairs=[{source: e, target: f, name: a/b}]", "task.pairs[0].name = 'a/b'"),
            ("task.pairs=[{source: e, target: f, baseline: 0}]", "baseline = 0.0: must be > 0"),
            ("task.pairs=[{source: e, target: f, max_pairs: 0}]", "max_pairs = 0: must be >= 1"),
            ("task.data.corpora=[]", "task 'en-fr' has no data"),
            ("task.data.corpora=[{options: {a: 1}}]", "task.data.corpora[0].reader is empty"),
            ("trainer.evaluation.tasks=[en-xx]", "tasks[0] = 'en-xx' is not a task; did you mean"),
            ("task.data.dev_fraction=1", "task.data.dev_fraction = 1.0: must be >= 0 and < 1"),
            ("task.data.dev_fraction=0.5,task.data.test_fraction=0.5", "leave nothing to train on"),
            ("task.data.granularity=exmple", "unknown; did you mean 'example'"),
            (
                "task.data.vocabulary.size=256",
                "task.data.vocabulary.size = 256: 4 special ids, 256",
            ),
            ("task.data.bucket_lengths=[16,8]", "expected growing lengths"),
            ("task.data.bucket_lengths=[16,32]", "must hold task.data.max_length = 128"),
            ("task.data.tokens_per_batch=64", "task.data.tokens_per_batch = 64: one row"),
            ("task.model.size=tny", "task.model.size = 'tny' is unknown; did you mean 'tiny'?"),
            (
                "task.model.hidden_dim=10,task.model.num_heads=4",
                "must be a multiple of task.model.num_heads",
            ),
            ("task.model.dropout=1.0", "task.model.dropout = 1.0: must be >= 0 and < 1"),
            ("task.model.label_smoothing=.nan", "task.model.label_smoothing = nan: must be"),
            ("task.model.max_length=64", "task.model.max_length = 64: sentences of"),
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
                "task.decoding.min_length=200",
                "task.decoding.min_length = 200 is above max_length=128",
            ),
            ("trainer.evaluation.metric=blue", "did you mean 'bleu'"),
            ("trainer.evaluation.lag=-1", "trainer.evaluation.lag = -1: must be >= 0"),
            (
                "trainer.evaluation.interval=100,trainer.evaluation.lag=101",
                "trainer.evaluation.lag = 101: scores have to take effect by the time the next "
                "validation begins; give at most trainer.evaluation.interval = 100",
            ),
            (
                "trainer.evaluation.lag=10,trainer.evaluation.backend=tf",
                "trainer.evaluation.lag = 10: trainer.evaluation.backend = 'tf' would compete",
            ),
            ("trainer.optimizer.beta_2=1", "trainer.optimizer.beta_2 = 1.0: must be >= 0 and < 1"),
            ("trainer.optimizer.learning_rate=.inf", "learning_rate = inf: must be > 0"),
            ("trainer.schedule.name=''", "trainer.schedule.name is empty"),
            ("runtime.seed=-1", "runtime.seed = -1: must be >= 0 and <= 4294967295"),
            ("runtime.distribution_strategy=tpus", "did you mean 'tpu'"),
            (
                "runtime.distribution_strategy=tpu,runtime.mixed_precision_dtype=mixed_float16",
                "runtime.mixed_precision_dtype = 'mixed_float16': TPUs compute in bfloat16",
            ),
        ],
    )
    def test_problem(self, params, expected):
        assert expected in message(params)

    def test_names_of_tasks_may_have_letters_of_all_scripts(self):
        config = load("task.pairs=[{source: en, target: fr, name: en-français}]")
        assert config.task.pairs[0].name == "en-français"

    def test_all_problems_are_listed(self):
        text = message("runtime.seed=-1,trainer.train_steps=0,task.model.size=x")
        assert len(text.splitlines()) == 3

    def test_all_wrong_keys_and_types_are_listed(self, tmp_path):
        path = tmp_path / "bad.yaml"
        path.write_text("trainer:\n  train_stps: 5\n  max_to_keep: many\n")
        lines = message("runtime.seed=x,a=1", given=[path]).splitlines()
        assert [line.split(":")[0].strip() for line in lines] == [
            f"{path} line 2",
            f"{path} line 3",
            "--params_override",
            "--params_override",
        ]

    def test_only_on_request(self):
        assert load("runtime.seed=-1", check=False).runtime.seed == -1


RICH = (
    "task.pairs=[{source: en, target: fr, max_pairs: 5, baseline: 31.5, corpora: "
    "[{reader: tsv, options: {columns: [0, 1], quote: '\"', path: ü.tsv}}]}, "
    "{name: norwegian, source: en, target: 'no'}]",
    "trainer.optimizer.epsilon=1e-9,task.model.dropout=0.15,task.data.bucket_lengths=[64,128]",
    "trainer.schedule={name: inverse_ratio, parameters: {alpha: 2, weights: {a: 1.5}}}",
)


class TestSavedParams:
    def test_round_trip(self, tmp_path):
        config = load(*RICH)
        files.save_params(config, tmp_path)
        assert os.listdir(tmp_path) == ["params.yaml"]
        again = files.load_params(tmp_path)
        assert as_dict(again) == as_dict(config)
        assert files.diff(config, again) == []
        assert isinstance(again.task.pairs[0].corpora[0], CorpusConfig)

    def test_a_file_of_an_older_version_is_read_and_written_the_same(self, tmp_path):
        """Same keys but one, order and values: it was written with Model Garden's classes."""
        older = Path(__file__).with_name("params_0_1.yaml")
        files.save_params(files.load_params(older), tmp_path)
        found = (tmp_path / "params.yaml").read_text(encoding="utf-8").splitlines()
        text = older.read_text(encoding="utf-8")
        renamed = text.replace("    schedule: trans", "    learning_rate_schedule: trans")
        assert found[1:] == renamed.splitlines()[1:]

    def test_a_former_name_is_accepted_with_a_note(self, tmp_path, capsys):
        path = tmp_path / "old.yaml"
        path.write_text("trainer:\n  optimizer:\n    schedule: linear\n")
        config = load("trainer.optimizer.schedule=constant", given=[path])
        assert config.trainer.optimizer.learning_rate_schedule == "constant"
        field = "trainer.optimizer.schedule is called trainer.optimizer.learning_rate_schedule now"
        assert capsys.readouterr().err.splitlines() == [
            f"{path} line 3: {field}",
            f"--params_override: {field}",
        ]

    def test_a_value_under_a_former_name_is_checked_at_its_line(self, tmp_path):
        path = tmp_path / "old.yaml"
        path.write_text("trainer:\n  optimizer:\n    schedule: linaer\n")
        found = message(given=[path])
        assert f"{path} line 3: trainer.optimizer.learning_rate_schedule" in found
        path.write_text("trainer: {optimizer: {schedule: linear, learning_rate_schedule: linear}}")
        assert "trainer.optimizer.schedule is unknown" in message(given=[path])

    def test_it_wins_over_any_experiment(self, tmp_path):
        config = load(*RICH)
        files.save_params(config, tmp_path / "deep" / "p.yaml")
        again = files.load_experiment("translation/transformer_big", [tmp_path / "deep" / "p.yaml"])
        assert as_dict(again) == as_dict(config)

    def test_nothing_half_written(self, tmp_path, monkeypatch):
        path = tmp_path / "params.yaml"
        files.save_params(load(), path)
        before = path.read_text()

        def no_space(*args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="No space"):
            files.save_params(load("runtime.seed=2"), path)
        assert path.read_text() == before
        assert os.listdir(tmp_path) == ["params.yaml"]


class TestDiff:
    def test_fields_options_and_tasks(self):
        left = load("trainer.schedule.parameters.alpha=1")
        right = load(
            "task.pairs=[{source: en, target: de}, {source: en, target: fr, max_pairs: 5}]",
            "runtime.seed=2",
            "trainer.schedule.parameters.beta=1",
        )
        differences = files.diff(left, right)
        assert ("task.pairs[en-fr].max_pairs", None, 5) in differences
        assert ("runtime.seed", 1, 2) in differences
        assert ("trainer.schedule.parameters.alpha", 1, files.ABSENT) in differences
        assert ("trainer.schedule.parameters.beta", files.ABSENT, 1) in differences
        added = [entry for entry in differences if entry[0] == "task.pairs[en-de]"]
        assert added[0][1] is files.ABSENT
        assert len(differences) == 5

    def test_stages_of_one_name_are_matched_by_position(self):
        def stages(*temperatures):
            each = (f"{{name: temperature, parameters: {{temperature: {t}}}, steps: 9}}"
                    for t in temperatures)  # fmt: skip
            return load(
                "trainer.schedule.name=piecewise",
                f"trainer.schedule.parameters.stages=[{', '.join(each)}]",
                check=False,
            )

        field = "trainer.schedule.parameters.stages[0].parameters.temperature"
        assert files.diff(stages(1, 5, 1), stages(3, 5, 1)) == [(field, 1, 3)]

    def test_true_and_one_differ(self):
        left, right = load(), load()
        right.trainer.schedule.parameters["x"] = True
        left.trainer.schedule.parameters["x"] = 1
        assert [path for path, _, _ in files.diff(left, right)] == ["trainer.schedule.parameters.x"]


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
