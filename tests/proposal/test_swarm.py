"""`keras-mtl propose` with runs that a law answers: what runs, what resumes, and what is reused."""

import copy
import json
import pathlib

import numpy as np
import pytest
import yaml
from config_case import load

from keras_mtl.cli import main
from keras_mtl.configuration.files import load_params
from keras_mtl.errors import ConfigError, DataError
from keras_mtl.figures import charts
from keras_mtl.proposal import swarm
from keras_mtl.training.run import jobs

SIZES = {"en-fr": 6000, "en-de": 3000, "en-gl": 200, "en-it": 900}
HELP = {"en-fr": 3.0, "en-de": 4.0, "en-gl": 9.0, "en-it": 5.0}
CONFIG = """
task:
  data:
    corpora: [{reader: cldr, options: {pairs: 9}}]
    tokens_per_batch: 1024
  model: {size: tiny}
trainer:
  train_steps: 400
  schedule: {name: temperature, parameters: {temperature: 5}}
"""


def loss(task, weights):
    others = sum(w * (0.1 if name < task else -0.2) for name, w in weights.items() if name != task)
    return 1.0 + len(task) / 10 + np.exp(-HELP[task] * weights.get(task, 0.0) + others)


class Answers:
    """Stands in for the pool of processes: a law gives the losses of a run.

    Attributes:
        trained: names of the jobs that ended.
        stop_after: number of jobs after which the process is killed; None for never.
    """

    def __init__(self):
        self.trained, self.stop_after, self.signal, self.failed = [], None, 0, []

    def __call__(self, slots, log, inherited=()):
        return self

    def run(self, given):
        for job in given:
            (command, *rest), *_ = job.commands
            config = swarm.load_params(rest[1])
            if command == "prepare":
                self.prepare(pathlib.Path(config.task.data.data_dir), config)
                continue
            if self.stop_after is not None and len(self.trained) >= self.stop_after:
                raise KeyboardInterrupt
            self.train(pathlib.Path(rest[3]), config)
            self.trained.append(job.name)

    def prepare(self, directory, config):
        directory.mkdir(exist_ok=True)
        if (directory / "manifest.json").exists():
            return
        tasks = [
            {
                "name": pair.name,
                "train_size": SIZES[pair.name],
                "source_tokens": 6 * SIZES[pair.name],
                "target_tokens": 6 * SIZES[pair.name],
                "dev_size": 50,
            }
            for pair in config.task.pairs
        ]
        manifest = {"kind": "keras_mtl prepared data", "tasks": tasks}
        (directory / "manifest.json").write_text(json.dumps(manifest))

    def train(self, directory, config):
        names = [pair.name for pair in config.task.pairs]
        given = config.trainer.schedule.parameters.get("weights") or dict.fromkeys(names, 1.0)
        scores = {name: -loss(name, given) for name in names}
        event = {"event": "evaluation", "step": config.trainer.train_steps}
        event["scores"] = {"neg_log_perplexity": scores}
        (directory / "metrics.jsonl").write_text(json.dumps(event) + "\n")


@pytest.fixture
def answers(monkeypatch):
    found = Answers()
    monkeypatch.setattr(jobs, "Pool", found)
    # The nightly test looks at the picture, which takes a second.
    monkeypatch.setattr(charts, "save_png", lambda figure, path: path)
    return found


@pytest.fixture
def in_memory(monkeypatch):
    """Keeps the configurations of runs in memory, because parsing YAML takes most of the time."""
    known = {}

    def write(config, directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / jobs.CONFIG_FILE).touch()
        known[str(directory / jobs.CONFIG_FILE)] = copy.deepcopy(config)

    monkeypatch.setattr(swarm, "write_config", write)
    monkeypatch.setattr(swarm, "load_params", lambda path: copy.deepcopy(known[str(path)]))


@pytest.fixture
def propose(tmp_path, answers):
    """Runs the command for some tasks and returns its exit code."""

    def run(*more, tasks=("en-fr", "en-de", "en-gl"), config=CONFIG, directory="out"):
        file = tmp_path / "experiment.yaml"
        values = yaml.safe_load(config)
        sides = [name.split("-") for name in tasks]
        values["task"]["pairs"] = [{"source": s, "target": t} for s, t in sides]
        file.write_text(yaml.safe_dump(values))
        command = ["propose", "--config_file", str(file), "--model_dir", str(tmp_path / directory)]
        command += ["--proxy_override", "trainer.train_steps=50", "--max_passes", "200"]
        return main.main([*command, "--samples", "2", "--law", "log_linear", *more])

    return run


def result(directory):
    return json.loads((directory / "proposal.json").read_text())


def test_a_proposal_is_written_in_all_forms(propose, answers, tmp_path, capsys):
    output = tmp_path / "proposed.yaml"
    assert propose("--output", str(output), tasks=("en-fr", "en-gl")) == 0
    assert answers.trained == [f"proxy {i:04d}" for i in range(9)]
    found = result(tmp_path / "out")
    weights = {task["name"]: task["weight"] for task in found["tasks"]}
    assert sum(weights.values()) == pytest.approx(1)
    assert found["value"] < found["natural_value"]
    assert found["better_in"] == 1.0
    assert (found["max_passes"], found["pull"]) == (200, 0.2)
    # The laws are those that answered.
    for task in found["tasks"]:
        assert task["loss"] == pytest.approx(loss(task["name"], weights), abs=0.01)
    written = load_params(output)
    assert (written.trainer.schedule.name, written.trainer.train_steps) == ("constant", 400)
    assert written.trainer.schedule.parameters == {"weights": weights}
    printed = capsys.readouterr().out
    assert "to train: 9 of 9 proxy runs, 0 single-task runs; 50 steps each" in printed
    assert "1.1 times the 400 planned steps" in printed
    lines = printed[printed.index("trainer:") : printed.index("numbers:")]
    assert yaml.safe_load(lines)["trainer"]["schedule"]["parameters"] == {"weights": weights}
    # A proxy has the experiment's configuration, but for what makes it small and comparable.
    proxy = load_params(tmp_path / "out/proxies/0003/experiment.yaml")
    assert proxy.trainer.train_steps == 50
    assert proxy.trainer.evaluation.metric == "neg_log_perplexity"
    assert proxy.task.model.size == "tiny"


@pytest.mark.usefixtures("in_memory")
def test_a_killed_swarm_resumes_and_gives_the_same_proposal(propose, answers, tmp_path):
    assert propose() == 0
    answers.trained.clear()
    answers.stop_after = 5
    assert propose(directory="killed") == 130
    assert len(answers.trained) == 5
    answers.stop_after = None
    assert propose(directory="killed") == 0
    assert sorted(answers.trained) == [f"proxy {i:04d}" for i in range(12)]
    assert result(tmp_path / "killed") == result(tmp_path / "out")
    # Another objective needs no other proxy runs, but single-task ones for its baselines.
    answers.trained.clear()
    assert propose("--importance", "en-gl=2,en-de=1", directory="killed") == 0
    assert not answers.trained
    assert propose("--objective", "worst", directory="killed") == 0
    assert result(tmp_path / "killed")["pull"] == 0
    assert answers.trained == [f"baseline {name}" for name in ("en-fr", "en-de", "en-gl")]
    assert [task["baseline"] for task in result(tmp_path / "killed")["tasks"]] == [
        pytest.approx(loss(name, {name: 1.0})) for name in ("en-fr", "en-de", "en-gl")
    ]


@pytest.mark.usefixtures("in_memory")
def test_runs_are_reused_when_tasks_change(propose, answers, tmp_path):
    assert propose() == 0
    answers.trained.clear()
    four = ("en-fr", "en-de", "en-gl", "en-it")
    assert propose(tasks=four) == 0
    # As many as for a swarm of one task, all with the new one, over a wide range of its weight.
    assert answers.trained == [f"proxy {i:04d}" for i in range(12, 18)]
    found = result(tmp_path / "out")
    weights = [run["weights"]["en-it"] for run in found["runs"]]
    assert weights[:12] == [0.0] * 12
    assert max(weights) > 10 * min(weights[12:]) > 0
    own = next(task for task in found["tasks"] if task["name"] == "en-it")
    best = {task["name"]: task["weight"] for task in found["tasks"]}
    assert own["loss"] == pytest.approx(loss("en-it", best), abs=0.1)
    # The new data has all tasks, and text is still split by the first vocabulary.
    proxy = swarm.load_params(tmp_path / "out/proxies/0012/experiment.yaml")
    assert proxy.task.data.data_dir == str(tmp_path / "out/data-2")
    assert proxy.task.data.vocabulary.model_file == str(tmp_path / "out/data/vocabulary.model")
    # Without a task that was there, nothing runs.
    answers.trained.clear()
    assert propose(tasks=("en-fr", "en-gl", "en-it")) == 0
    assert not answers.trained
    assert result(tmp_path / "out")["former_tasks"] == ["en-de"]


@pytest.mark.usefixtures("in_memory")
def test_more_proxies_are_added_to_a_swarm(propose, answers, tmp_path):
    assert propose("--proxies", "8") == 0
    answers.trained.clear()
    assert propose("--proxies", "10") == 0
    assert answers.trained == ["proxy 0008", "proxy 0009"]


@pytest.mark.usefixtures("in_memory")
def test_a_dry_run_trains_nothing(propose, answers, capsys):
    assert propose("--dry_run", "--least_ratio", "0.9") == 0
    assert not answers.trained
    printed = capsys.readouterr().out
    assert printed.count("  proxy 00") == 12
    assert printed.count("  baseline en-") == 3


@pytest.mark.usefixtures("in_memory")
def test_given_baselines(propose, answers, tmp_path, capsys):
    file = tmp_path / "losses.json"
    file.write_text(json.dumps({"en-fr": 1.6, "en-de": 1.6, "en-gl": 1.6}))
    assert propose("--least_ratio", "0.8", "--baselines_file", str(file)) == 0
    assert not [name for name in answers.trained if name.startswith("baseline")]
    ratios = [task["baseline"] / task["loss"] for task in result(tmp_path / "out")["tasks"]]
    assert min(ratios) >= 0.8 - 1e-3
    file.write_text(json.dumps({"en-fr": 1.6}))
    assert propose("--least_ratio", "0.8", "--baselines_file", str(file)) == 2
    assert "expected a JSON object with a loss for each of en-fr" in capsys.readouterr().err


@pytest.mark.usefixtures("in_memory")
def test_laws_that_predict_nothing_are_refused(propose, answers, tmp_path, capsys, monkeypatch):
    noise = np.random.default_rng(3)
    monkeypatch.setitem(globals(), "loss", lambda task, weights: 3 + noise.normal(0, 0.1))
    output = tmp_path / "proposed.yaml"
    assert propose("--output", str(output)) == 2
    captured = capsys.readouterr()
    assert "no better than a constant, so these weights are not a proposal" in captured.err
    assert "weights:\n" not in captured.out
    assert not output.exists()


@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--importance", "en-fr"), "--importance: 'en-fr' is not NAME=VALUE, such as en-fr=2"),
        (("--importance", "en-fr=much"), "--importance: en-fr=much is not a number"),
        (("--importance", "en-xx=1"), "unknown task 'en-xx'"),
        (("--max_passes", "0.01"), "Give a larger --max_passes, fewer steps or more data"),
        (("--params_override", "trainer.schedule.nam=x"), "nam"),
        (("--proxy_override", "trainer.train_steps=0"), "configuration of a proxy run"),
        (("--proxies", "4"), "4 proxy runs are finished, but laws need at least 5"),
        (("--least_ratio", "0.999"), "no weights keep every task at 0.999 of its baseline"),
    ],
)
def test_what_is_wrong_is_named(more, message, propose, capsys):
    assert propose(*more) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("in_memory")
def test_a_run_of_another_configuration_is_not_mixed_in(propose, capsys):
    assert propose() == 0
    assert propose("--proxy_override", "trainer.train_steps=60") == 2
    text = capsys.readouterr().err
    assert "0000/experiment.yaml: trainer.train_steps is 50, but a new proxy run would have" in text
    assert propose(config=CONFIG.replace("pairs: 9", "pairs: 8")) == 2
    assert "is 9, but a new proxy run would have 8" in capsys.readouterr().err


def test_tasks_that_come_or_go_while_training_are_refused(propose, tmp_path):
    config = load("task.pairs=[{source: en, target: fr}, {source: en, target: de, stop_at: 9}]")
    with pytest.raises(ConfigError, match="task 'en-de': stop_at is 9"):
        swarm.Swarm(config, tmp_path).check()
    config.task.pairs = config.task.pairs[:1]
    with pytest.raises(ConfigError, match="at least 2 tasks"):
        swarm.Swarm(config, tmp_path).check()


def test_vocabularies_that_split_text_differently_are_refused(tmp_path):
    from keras_mtl.data.vocabulary_training import TaskText, train_vocabulary

    def vocabulary(words):
        pairs = [(f"{word} {other}", f"{other} {word}") for word in words for other in words]
        text = TaskText("en-fr", len(pairs), lambda: pairs)
        return train_vocabulary([text], ["fr"], size=290, model_type="bpe")

    config = load("task.pairs=[{source: en, target: fr}, {source: en, target: de}]")
    found = swarm.Swarm(config, tmp_path)
    first = vocabulary(["one", "two", "three", "seven", "eleven", "twelve"])
    for directory in ("data", "proxies/0000"):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "vocabulary.model").write_bytes(first.model_bytes)
    found._check_vocabularies(tmp_path / "proxies/0000")
    more = first.with_languages(["de"])
    (tmp_path / "data/vocabulary.model").write_bytes(more.model_bytes)
    found._check_vocabularies(tmp_path / "proxies/0000")
    other = vocabulary(["red", "green", "blue", "orange", "yellow", "black"])
    (tmp_path / "data/vocabulary.model").write_bytes(other.model_bytes)
    with pytest.raises(DataError, match=r"differs from that of .*so losses are not comparable"):
        found._check_vocabularies(tmp_path / "proxies/0000")
    # With a source vocabulary, both are kept for new data.
    data = config.task.data
    data.source_vocabulary.size = 500
    found._keep_vocabularies(data)
    assert data.vocabulary.model_file == str(tmp_path / "data/vocabulary.model")
    assert data.source_vocabulary.model_file == str(tmp_path / "data/source_vocabulary.model")
