"""Checkpoints are refused, not called damaged, when the model would have other decoders."""

import json
from types import SimpleNamespace

import pytest

from keras_mtl.configuration.files import save_params
from keras_mtl.configuration.overriding import set_values
from keras_mtl.configuration.schema import ExperimentConfig, PairConfig
from keras_mtl.errors import CheckpointError
from keras_mtl.training.run.directory import RunDirectory


def prepared(*targets):
    tasks = [SimpleNamespace(name=f"en-{t}", source="en", target=t) for t in targets]
    vocabulary = SimpleNamespace(hash="h", model_bytes=b"", has_source=False)
    return SimpleNamespace(tasks=tasks, vocabulary=vocabulary)


@pytest.fixture
def run(tmp_path):
    config = ExperimentConfig()
    config.task.model.sharing = "encoder"
    corpus = {"reader": "cldr", "options": {"pairs": 10}}
    set_values(config.task.data, {"corpora": [corpus]})
    config.task.pairs = [PairConfig(name=f"en-{t}", source="en", target=t) for t in ("fr", "de")]
    save_params(config, str(tmp_path / "params.yaml"))
    tasks = [
        {"name": f"en-{t}", "source": "en", "target": t, "decoder": i}
        for i, t in enumerate(("fr", "de"))
    ]
    (tmp_path / "tasks.json").write_text(json.dumps({"vocabulary_hash": "h", "tasks": tasks}))
    (tmp_path / "ckpt-5.index").touch()
    return RunDirectory(tmp_path), config


def test_a_run_with_the_same_decoders_resumes(run):
    directory, config = run
    assert directory.check(config, prepared("fr", "de")) == []


@pytest.mark.parametrize("targets", [("fr",), ("de", "fr"), ("fr", "de", "es")])
def test_other_decoders_are_refused(run, targets):
    directory, config = run
    with pytest.raises(CheckpointError, match="decoders for"):
        directory.check(config, prepared(*targets))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"norm": "rms"}, r"task\.model\.norm was 'layer_norm' and is now 'rms'"),
        ({"norm_position": "post"}, r"norm_position was 'pre' and is now 'post'"),
        ({"feed_forward_parameters": {"wide": 2}}, r"feed_forward_parameters\.wide was \(absent\)"),
    ],
)
def test_other_sub_layers_are_refused(run, change, field):
    directory, config = run
    set_values(config.task.model, change)
    with pytest.raises(CheckpointError, match=field):
        directory.check(config, prepared("fr", "de"))


def test_weights_without_a_run_are_not_trained_over(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "ckpt-5.index").touch()
    with pytest.raises(CheckpointError, match=r"no checkpoints of a run.*task\.model\.init"):
        RunDirectory(tmp_path).check(ExperimentConfig(), prepared("fr"))
    # A run that was killed between its first validation and its first checkpoint begins again.
    (tmp_path / "metrics.jsonl").touch()
    assert RunDirectory(tmp_path).check(ExperimentConfig(), prepared("fr")) == []


def test_another_seed_is_refused(run):
    directory, config = run
    config.runtime.seed += 1
    with pytest.raises(CheckpointError, match=r"runtime\.seed"):
        directory.check(config, prepared("fr", "de"))
