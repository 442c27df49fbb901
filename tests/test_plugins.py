"""Plug-ins: modules of users that register their own schedules, readers and metrics."""

import subprocess
import sys
import textwrap

import pytest
import yaml

from keras_mtl import errors, metrics
from keras_mtl.cli import main as cli
from keras_mtl.configuration import plugins
from tests import processes


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A directory that is the current one; Python forgets the modules that are imported in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def test_modules_are_found_in_the_current_directory_and_remembered_with_it(directory, monkeypatch):
    write(directory / "plug_a.py", "seen = 1")
    write(directory / "pack" / "__init__.py", "")
    write(directory / "pack" / "inner.py", "seen = 2")
    names = plugins.load(["plug_a", "pack.inner"])
    assert names == [f"{directory}/plug_a", f"{directory}/pack.inner"]
    # What is remembered is found from elsewhere, and in another process.
    code = f"import sys, os; from keras_mtl.configuration import plugins; plugins.load({names!r})"
    code += "; print(sys.modules['pack.inner'].seen)"
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    assert plugins.load(["json.decoder"]) == ["json.decoder"]


def test_a_directory_may_stand_in_front(directory):
    write(directory / "sub" / "plug_b.py", "")
    place = f"{directory}/sub/plug_b"
    assert plugins.load(["sub/plug_b", f"{directory}/sub/plug_b.py"]) == [place, place]
    assert plugins.load(["plug_b"], directory=str(directory / "sub")) == [place]
    write(directory / "sub" / "json.py", "raise SystemExit")
    with pytest.raises(errors.ConfigError, match=r"has a module 'json' in .*; rename your"):
        plugins.load(["sub/json"])
    assert sys.path[-1] == str(directory / "sub")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nundefined()", "line 2: undefined()\n  NameError: name 'undefined' is not defined"),
        ("import nosuch", "line 1: import nosuch\n  ModuleNotFoundError: .*\n  install the pack"),
        ("def f(:\n  pass", "line 1: def f(\n  SyntaxError: invalid syntax\n  repair"),
        ("import sys\nsys.exit(3)", "line 2: sys.exit(3)\n  SystemExit: 3\n  repair the module"),
        (
            "from keras_mtl.metrics import register_text_metric as r\n"
            "r('bleu', title='', unit='')(print)",
            "line 2: r('bleu', title='', unit='')(print)\n  ConfigError: metric name 'bleu' is tak",
        ),
    ],
)
def test_one_that_fails_is_named_with_its_line(directory, text, message):
    write(directory / "plug_c.py", text)
    with pytest.raises(errors.ConfigError) as caught:
        plugins.load(["plug_c"])
    found = str(caught.value)
    assert found.startswith(
        f"plug-in 'plug_c' (--import) cannot be imported:\n  {directory}/plug_c.py"
    )
    for part in message.split(".*"):
        assert part in found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plug_missing", r"no such module in Python's path or .*; check the name"),
        ("sub/plug_missing", r"no such module in .*/sub; check"),
        ("pack.missing", r"'pack\.missing' \(--import\): there is no such module"),
        ("my-plugin", "'my-plugin' is not the name of a module; write it as"),
        ("", "'' is not the name of a module"),
        ("..", "is not the name of a module"),
    ],
)
def test_one_that_is_not_there_is_named(directory, name, message):
    write(directory / "pack" / "__init__.py", "")
    with pytest.raises(errors.ConfigError, match=message):
        plugins.load([name])


def test_ctrl_c_while_a_plug_in_is_imported_is_no_failure_of_it(directory):
    write(directory / "plug_d.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins.load(["plug_d"])


@pytest.fixture
def installed(directory, monkeypatch):
    """Makes installed packages, as `pip` leaves them; returns a function that does so."""

    def install(name, module, text):
        site = directory / "site"
        write(site / f"{module}.py", text)
        info = site / f"{name}-1.0.dist-info"
        write(info / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        write(info / "entry_points.txt", f"[keras_mtl.plugins]\nany = {module}\n")
        if str(site) not in sys.path:
            monkeypatch.syspath_prepend(str(site))

    plugins.load_entry_points.cache_clear()
    yield install
    plugins.load_entry_points.cache_clear()


def test_entry_points_of_installed_packages_are_imported(installed, monkeypatch):
    monkeypatch.setattr(metrics.registry, "_METRICS", dict(metrics.registry._METRICS))
    text = """
        from keras_mtl import metrics
        metrics.register_text_metric("of_package", title="", unit="")(lambda *_: 1.0)
    """
    installed("good-package", "plug_good", text)
    plugins.load_entry_points()
    assert metrics.score("of_package", ["a"], ["b"]).value == 1.0
    installed("bad-package", "plug_bad", "1 / 0")
    plugins.load_entry_points.cache_clear()
    with pytest.raises(
        errors.ConfigError,
        match=r"(?s)'plug_bad' of the installed package 'bad-pac"
        r"kage' cannot.*line 1: 1 / 0.*ZeroDivisionError.*uninstall the package",
    ):
        plugins.load_entry_points()


def test_help_does_not_import_plug_ins(installed, capsys):
    installed("bad-package", "plug_bad", "1 / 0")
    with pytest.raises(SystemExit, match="0"):
        cli.main(["inspect", "--help"])
    assert "--import MODULE" in capsys.readouterr().out


def test_a_configuration_remembers_its_plug_ins(directory):
    from keras_mtl.configuration import files

    for name in ("one", "two", "three"):
        write(directory / "conf" / f"plug_{name}.py", "")
    base = {
        "task": {
            "pairs": [{"source": "en", "target": "fr"}],
            "data": {"corpora": [{"reader": "cldr", "options": {"pairs": 5}}]},
        }
    }
    first = write(directory / "conf" / "a.yaml", yaml.safe_dump({**base, "imports": ["plug_one"]}))
    second = write(directory / "conf" / "b.yaml", "imports: [../conf/plug_two]\n")
    config = files.load_experiment(
        None, [first, second], imports=["conf/plug_three", "conf/plug_one"]
    )
    assert config.imports == [f"{directory}/conf/plug_{name}" for name in ("three", "one", "two")]
    files.save_params(config, directory / "run" / "params.yaml")
    assert files.load_params(directory / "run").imports == config.imports
    assert plugins.load_saved(directory / "run") == config.imports
    assert plugins.load_saved(directory / "nothing") == []
    first.write_text(yaml.safe_dump({**base, "imports": ["plug_gone"]}))
    with pytest.raises(
        errors.ConfigError, match=r"\(.*a\.yaml line \d+\): there is no such module"
    ):
        files.load_experiment(None, [first])
    with pytest.raises(
        errors.ConfigError, match=r"imports = 'plug_one' is a string; expected a list"
    ):
        files.load_experiment(None, [], [yaml.safe_dump(base), "imports=plug_one"])


def test_simulate_imports_what_its_configuration_names(directory, monkeypatch, capsys):
    from keras_mtl.schedules.registry import SCHEDULES

    monkeypatch.setattr(SCHEDULES, "classes", dict(SCHEDULES.classes))
    text = """
        from keras_mtl.schedules.base import FixedSchedule
        from keras_mtl.schedules.registry import register

        @register
        class Even(FixedSchedule):
            name = "even"

            def __init__(self, tasks, *, floor=0.0):
                super().__init__(tasks, [1.0] * len(tasks), floor=floor)
    """
    write(directory / "conf" / "plug_even.py", text)
    config = {
        "imports": ["plug_even"],
        "task": {"pairs": [{"source": "en", "target": t, "max_pairs": 99} for t in ("fr", "de")]},
        "trainer": {"train_steps": 40, "schedule": {"name": "even"}},
    }
    path = write(directory / "conf" / "a.yaml", yaml.safe_dump(config))
    assert cli.main(["simulate", "--config_file", str(path), "--output", ""]) == 0
    assert "even" in capsys.readouterr().out


PLUG_IN = '''
"""A reader, a schedule, two metrics and an experiment, as a user's package has them."""

import dataclasses

import numpy as np
from keras_mtl import metrics
from keras_mtl.configuration.presets import register_preset
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.data.corpora import base
from keras_mtl.schedules.base import Schedule
from keras_mtl.schedules.registry import register


@base.register_reader
class Counting(base.CorpusReader):
    """Numbers and their digits in words."""

    name = "counting"

    def __init__(self, source, target, *, pairs):
        super().__init__(source, target)
        self._pairs = pairs

    def read(self):
        for number in range(self._pairs):
            words = ["zero one two three four five six seven eight nine".split()[int(d)]
                     for d in str(number)]
            sides = {"xx": list(str(number)), "yy": words, "zz": words[::-1]}
            self.lines["counting"] += 1
            texts = (" ".join(sides[code]) for code in (self.source, self.target))
            yield base.Pair(*texts, number + 1)


@register
class Seesaw(Schedule):
    """One task, then the other."""

    name = "seesaw"

    def __init__(self, tasks, *, period=2, floor=0.0):
        super().__init__(tasks, floor=floor)
        self.period = period

    def weights(self, step, state):
        weights = np.full(self.num_tasks, 0.25)
        weights[step // self.period % self.num_tasks] = 1.0
        return weights / weights.sum()


@metrics.register_text_metric(
    "wrong_first", title="wrong first words", unit="%", higher_is_better=False
)
def wrong_first(hypotheses, references):
    wrong = [a.split()[:1] != b.split()[:1] for a, b in zip(hypotheses, references)]
    return 100 * sum(wrong) / len(wrong)


@metrics.register_loss_metric("bits", title="bits", unit="bits/token", higher_is_better=False)
def bits(total_nll, tokens):
    return total_nll / tokens / 0.6931471805599453


@register_preset("translation/plugged")
def plugged():
    experiment = ExperimentConfig()
    experiment.task.model.size = "tiny"
    experiment.task.model.hidden_dim = 16
    experiment.task.model.intermediate_dim = 16
    experiment.task.data.vocabulary.size = 300
    return experiment
'''

CONFIG = """
task:
  pairs:
    - {source: xx, target: yy}
    - {source: xx, target: zz}
  data:
    corpora: [{reader: counting, options: {pairs: 700}}]
    dev_fraction: 0.05
    test_fraction: 0.05
    max_length: 32
    tokens_per_batch: 256
  decoding: {max_length: 16}
  model: {max_length: 32}
trainer:
  train_steps: 4
  checkpoint_interval: 4
  schedule: {name: seesaw, parameters: {period: 1}}
  evaluation: {interval: 2, metric: wrong_first, max_pairs: 8}
"""


@pytest.mark.slow  # Two processes that import TensorFlow; guards docs/how-to/extending.md.
def test_a_users_package_from_inspect_to_report(directory):
    write(directory / "my_plugins.py", PLUG_IN)
    write(directory / "run.yaml", CONFIG)
    common = ["--experiment", "translation/plugged", "--config_file", "run.yaml"]
    common += ["--import", "my_plugins", "--model_dir", "run"]

    def run(*commands, cwd=directory):
        _, output, error = processes.keras_mtl_in(cwd, *commands).finish()
        assert output.count("code 0") == len(commands), output + error
        return output + error

    # One process for all that begins with the package named.
    out = run(*(" ".join([name, *common]) for name in ("inspect", "prepare", "train")))
    assert "schedule: seesaw(period=1)" in out
    assert "wrong_first" in out
    saved = yaml.safe_load((directory / "run" / "params.yaml").read_text())
    assert saved["imports"] == [f"{directory}/my_plugins"]
    # The run directory remembers the package, from wherever it is used.
    out = run(
        f"evaluate --model_dir {directory}/run --metrics wrong_first bits chrf",
        f"report {directory}/run --output {directory}/page --samples 0",
        cwd="/",
    )  # fmt: skip
    assert "wrong first words" in out
    assert (directory / "page" / "index.html").exists()
