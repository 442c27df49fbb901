"""Translation, denoising and a language model in one run: they learn, resume, and are scored."""

import copy
import json
import shutil

import numpy as np
import pytest
from tiny_run import CONFIG

import keras_mtl
from keras_mtl.cli.main import main
from keras_mtl.decoding.tasks import TaskList
from keras_mtl.errors import ExportError, InputError
from keras_mtl.events import of_kind, read_events
from tests.training.same_run import assert_same_run

# Two runs of four tasks; tests/data/test_changed_pairs.py protects the batches.
pytestmark = pytest.mark.nightly

FRENCH = {"source": "en", "target": "fr", "max_pairs": 300}
PAIRS = [
    {**FRENCH, "baseline": 30.0},
    {**FRENCH, "name": "fr-noise", "kind": "denoising", "baseline": 20.0},
    {
        **FRENCH,
        "name": "fr-mass",
        "kind": "denoising",
        "noise": {"method": "mass", "span": 0.3},
        "baseline": 20.0,
    },
    {**FRENCH, "name": "fr-lm", "kind": "language_model", "baseline": 20.0},
]
NAMES = ["en-fr", "fr-noise", "fr-mass", "fr-lm"]
CASES = {
    "batch": {"bucket_lengths": [64], "granularity": "batch"},
    "packed example": {"bucket_lengths": [], "granularity": "example", "packing": True},
}


def make(case, directory):
    config = copy.deepcopy(CONFIG)
    config["task"]["pairs"] = PAIRS
    config["task"]["data"] |= {
        "data_dir": str(directory / "data"),
        "subword_sampling": {"enabled": True, "alpha": 0.3},
        **CASES[case],
    }
    config["trainer"] |= {"train_steps": 80, "checkpoint_interval": 40, "steps_per_loop": 10}
    config["trainer"]["optimizer"] = {"warmup_steps": 30, "learning_rate": 2.0}
    config["trainer"]["evaluation"] = {
        "interval": 40,
        "metric": "chrf",
        "max_pairs": 8,
        "backend": "native",
        # The engine scores the tasks that it does not translate.
        "lag": 20 if case == "batch" else 0,
    }
    (directory / "config.json").write_text(json.dumps(config))
    return keras_mtl.load_config(directory / "config.json")


@pytest.fixture(scope="module", params=CASES)
def run(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    config = make(request.param, directory)
    keras_mtl.train(config, directory / "whole", log=lambda line: None)
    return config, directory


def test_each_loss_falls(run):
    events = read_events(run[1] / "whole")
    losses = [event["loss"] for event in of_kind(events, "train")]
    for name in NAMES:
        found = [loss[name] for loss in losses if name in loss]
        assert found[-1] < found[0] - 0.5, name
    first, *_, last = of_kind(events, "evaluation")
    for name in NAMES[1:]:
        assert last["scores"]["perplexity"][name] < first["scores"]["perplexity"][name]
    assert set(last["scores"]["perplexity"]) == set(NAMES[1:])
    assert set(last["scores"]["chrf"]) == {"en-fr"}
    assert set(last["ratios"]) == set(NAMES)


def test_a_stopped_run_is_that_of_an_unstopped_one(run):
    config, directory = run
    shutil.copytree(directory / "whole", directory / "again")
    for file in (directory / "again").glob("ckpt-80.*"):
        file.unlink()
    lines = []
    keras_mtl.train(config, directory / "again", log=lines.append)
    assert sum("resuming" in line for line in lines) == 1
    assert_same_run(directory / "whole", directory / "again")


def test_only_translation_translates(run, capsys):
    _, directory = run
    whole = directory / "whole"
    assert [task.kind for task in TaskList.read(whole).tasks] == [
        "translation",
        "denoising",
        "denoising",
        "language_model",
    ]
    assert main(["translate", "--model", str(whole), "--task", "fr-lm"]) == 2
    assert "predicts text without a source, so it does not translate" in capsys.readouterr().err
    file = keras_mtl.export_model(whole, directory / "model.kmtl", format="engine")
    translator = keras_mtl.load_translator(file)
    assert [task.name for task in translator.tasks] == ["en-fr"]
    with pytest.raises(InputError, match="unknown task 'fr-lm'"):
        translator.translate(["one"], "fr-lm")


def test_evaluation_scores_each_task_by_what_suits_it(run, capsys):
    _, directory = run
    whole, lines = directory / "whole", []
    settings = keras_mtl.EvaluationSettings(max_pairs=8, beam_size=1, compare_with="int8")
    evaluation = keras_mtl.evaluate(whole, settings, log=lines.append)
    assert any("fr-noise, fr-mass, fr-lm: no translation" in line for line in lines)
    assert set(evaluation.results["en-fr"].scores) == {"bleu", "chrf", "perplexity"}
    assert set(evaluation.results["fr-lm"].scores) == {"perplexity"}
    assert set(evaluation.changes) == {"en-fr"}
    evaluation.write()
    words = ["evaluate", "--model_dir", str(whole), "--max_pairs", "8", "--beam_size", "1"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("fr-lm"))
    assert row.split()[2:4] == ["-", "-"]
    assert main(["report", str(whole), "--output", str(directory / "report")]) == 0
    # The engine has the same loss as TensorFlow.
    assert np.isfinite(evaluation.results["fr-lm"].scores["perplexity"])


def test_inspect_names_kinds_noise_and_sampling(run, capsys):
    _, directory = run
    main(["inspect", "--config_file", str(directory / "config.json")])
    printed = capsys.readouterr().out
    assert "denoising of fr" in printed
    assert "language_model of fr" in printed
    assert "noise of fr-mass: a masked span of 30% of the pieces" in printed
    assert "subword sampling of source and target: alpha 0.3" in printed


def test_a_language_model_alone_is_trained_and_scored(tmp_path):
    """As for its baseline; the engine validates it while training continues."""
    config = make("batch", tmp_path)
    config.task.pairs = config.task.pairs[3:]
    config.trainer.train_steps = config.trainer.checkpoint_interval = 6
    config.trainer.evaluation.interval, config.trainer.evaluation.lag = 3, 2
    config.trainer.schedule.name = "uniform"
    config.task.data.data_dir = ""
    keras_mtl.train(config, tmp_path / "run", log=lambda line: None)
    evaluations = of_kind(read_events(tmp_path / "run"), "evaluation")
    assert [list(event["scores"]) for event in evaluations] == [["perplexity"]] * 2
    with pytest.raises(ExportError, match="no task of the model translates"):
        keras_mtl.export_model(tmp_path / "run", tmp_path / "model.kmtl", format="engine")
    evaluation = keras_mtl.evaluate(tmp_path / "run", keras_mtl.EvaluationSettings(max_pairs=4))
    assert set(evaluation.results["fr-lm"].scores) == {"perplexity"}
