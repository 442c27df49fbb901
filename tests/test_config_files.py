"""Experiments, overrides, checks, the saved configuration and differences."""

import os
from pathlib import Path

import pytest

from keras_mtl import errors
from keras_mtl.configuration import files, presets
from keras_mtl.configuration.architectures import ARCHITECTURES
from keras_mtl.configuration.model_sizes import sizes_of
from keras_mtl.configuration.schema import (
    CorpusConfig,
    PairConfig,
    as_dict,
)
from tests.config_case import MINIMAL, load, message


class TestExperiments:
    def test_each_size_has_a_valid_preset(self):
        expected = [
            f"translation/{architecture}_{size}"
            for architecture in ARCHITECTURES
            for size in sizes_of(architecture)
        ]
        assert presets.available() == sorted(["translation/transformer", *expected])
        for name in presets.available():
            files.load_experiment(name, (), MINIMAL)

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
        found = load(first, later, check=None).trainer.schedule.parameters["stages"]
        assert found == [
            {"name": "temperature", "parameters": {"cap": 7}, "steps": 3},
            {"name": "x"},
        ]

    def test_mappings_inside_options_are_merged(self):
        weights = "trainer.schedule.parameters.weights"
        first = f"trainer.schedule.name=constant,{weights}={{en-fr: 1}}"
        both = load(first, f"{weights}={{en-de: 2}}", check=None).trainer.schedule.parameters
        assert both == {"weights": {"en-fr": 1, "en-de": 2}}
        none = load(first, f"{weights}={{}}", check=None).trainer.schedule.parameters
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
            (
                "trainer.train_steps=many",
                "trainer.train_steps = 'many' is a string; expected an int",
            ),
            ("trainer.train_steps=1.5", "trainer.train_steps = 1.5 is a number; expected an int"),
            ("runtime.deterministic=1", "= 1 is an integer; expected true or false"),
            ("runtime.seed=true", "runtime.seed = True is a boolean; expected an integer"),
            ("task.model=base", "task.model = 'base' is a string; expected a mapping"),
            (
                "task.pairs={source: en}",
                "task.pairs = {'source': 'en'} is a mapping; expected a li",
            ),
            ("task.pairs=[en-fr]", "task.pairs[0] = 'en-fr' is a string; expected a mapping"),
            ("task.data.bucket_lengths=[8, x]", "task.data.bucket_lengths[1] = 'x' is a string"),
            ("task.pairs=[{source: en, target: no}]", "put it in quotes: 'no'"),
            ("runtime.seed=1,runtime.seed=2", "runtime.seed is set twice"),
            ("runtime.seed=1,runtime.seed.x=2", "runtime.seed.x is set twice"),
            ("runtime.seed=[1", "has an unclosed quote or bracket"),
            ("runtime.seed=1,5", "'5' is not an assignment; write field.subfield=value"),
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
            (
                "trainer:\n  train_steps: 1\n  train_steps: 2\n",
                3,
                "is set twice; line 2 already sets it",
            ),
            ("trainer:\n  train_steps: [1\nx: 2\n", 3, "not valid YAML: expected ',' or ']'"),
            ("task:\n  pairs:\n  - source: en\n    target: no\n", 4, "put it in quotes: 'no'"),
            ("? [1]\n: 2\n", 1, "a key must be a single word"),
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
        assert "none.yaml: no such file" in message(given=[tmp_path / "none.yaml"])
        (tmp_path / "latin.yaml").write_bytes(b"task: {pairs: []} # \xe9")
        assert "not UTF-8 at byte 20" in message(given=[tmp_path / "latin.yaml"])
        assert "cannot be read" in message(given=[tmp_path])


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
        """The same order and values: it was written with Model Garden's classes.

        One key has another name now, and some are new.
        """
        older = Path(__file__).with_name("params_0_1.yaml")
        files.save_params(files.load_params(older), tmp_path)
        lines = (tmp_path / "params.yaml").read_text(encoding="utf-8").splitlines()
        renamed = older.read_text(encoding="utf-8").replace(
            "    schedule: trans", "    learning_rate_schedule: trans"
        )
        # What is left of an iterator after each line that was found: the order is the same.
        rest = iter(lines[1:])
        for line in renamed.splitlines()[1:]:
            assert line in rest, line

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
                check=None,
            )

        field = "trainer.schedule.parameters.stages[0].parameters.temperature"
        assert files.diff(stages(1, 5, 1), stages(3, 5, 1)) == [(field, 1, 3)]

    def test_true_and_one_differ(self):
        left, right = load(), load()
        right.trainer.schedule.parameters["x"] = True
        left.trainer.schedule.parameters["x"] = 1
        assert [path for path, _, _ in files.diff(left, right)] == ["trainer.schedule.parameters.x"]
