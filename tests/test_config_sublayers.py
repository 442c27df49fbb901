"""Models with sub-layers of plug-ins: what a configuration may ask of them; free of TensorFlow."""

import pytest
import yaml

from keras_mtl.cli import main as cli
from keras_mtl.configuration import sublayers

CONFIG = {
    "task": {
        "pairs": [{"source": "en", "target": "fr"}],
        "data": {"corpora": [{"reader": "cldr", "options": {"pairs": 5}}]},
        "model": {"feed_forward": "own", "norm": "scale", "norm_parameters": {"epsilon": 0.5}},
    }
}
REASON = (
    "task.model.feed_forward is 'own' and task.model.norm is 'scale', and only TensorFlow runs "
    "sub-layers of plug-ins"
)


def load(*overrides):
    from keras_mtl.configuration import files

    return files.load_experiment(None, [], [yaml.safe_dump(CONFIG), *overrides])


def test_what_only_the_engine_can_do_is_refused_by_the_configuration():
    from keras_mtl.errors import ConfigError

    assert sublayers.only_tensorflow(load().task.model) == REASON
    for override, message in (
        ("backend=native", f"backend = 'native': {REASON}; set it to auto or tf"),
        ("compute_type=int8", f"compute_type = 'int8': {REASON}; set it to float32"),
        ("lag=5", f"lag = 5: only the engine validates while training continues; {REASON}"),
    ):
        with pytest.raises(ConfigError) as error:
            load(f"trainer.evaluation.{override}")
        assert f"trainer.evaluation.{message}" in str(error.value)
    for ours in (
        "task.model.feed_forward=standard,task.model.norm=layer_norm",
        "task.model.feed_forward=gated,task.model.norm=rms_norm",
    ):
        config = load(ours, "trainer.evaluation.lag=5")
        assert sublayers.only_tensorflow(config.task.model) == ""


def test_parameters_belong_to_the_name():
    assert load().task.model.norm_parameters == {"epsilon": 0.5}
    changed = load("task.model.norm=other").task.model
    assert changed.norm_parameters == {}
    assert changed.feed_forward == "own"


def test_what_ctranslate2_lacks_is_refused(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    model = {"transparent_attention": True}
    (run / "params.yaml").write_text(yaml.safe_dump({"task": {**CONFIG["task"], "model": model}}))
    (run / "tasks.json").write_text(
        '{"vocabulary_hash": "h", "tasks": '
        '[{"name": "en-fr", "source": "en", "target": "fr", "decoder": 0}]}'
    )
    command = f"export --model_dir {run} --format ctranslate2 --output {tmp_path}/x"
    assert cli.main(command.split()) == 2
    message = capsys.readouterr().err
    assert "error: task.model.transparent_attention is true, and CTranslate2 gives all" in message
    assert "Export the engine file instead (--format engine)" in message
    assert sublayers.saved_only_tensorflow(run) == ""


def test_names_and_sizes_of_our_own_sub_layers():
    from keras_mtl.errors import ConfigError

    chosen = load("task.model.norm_position=post,task.model.positions=rotary").task.model
    assert (chosen.norm_position, chosen.positions) == ("post", "rotary")
    for override, message in (
        ("norm_position=both", "task.model.norm_position = 'both'"),
        ("positions=relative", "task.model.positions = 'relative'"),
        (
            "positions=rotary,task.model.hidden_dim=36,task.model.num_heads=4",
            "task.model.hidden_dim = 36: for rotary positions, the width of each of the 4 heads "
            "must be even, not 9",
        ),
    ):
        with pytest.raises(ConfigError) as error:
            load(f"task.model.{override}")
        assert message in str(error.value)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("export --model_dir run --format engine --output x", "Export a SavedModel instead"),
        ("export --model_dir run --format ctranslate2 --output x", "(--format saved_model or"),
        (
            "export --model_dir run --format saved_model_native --weight_type int8 --output x",
            "with float32 weights. Omit it",
        ),
        ("benchmark --model run", "benchmark measures the C++ engine"),
        ("translate --model run --task en-fr --backend native", "Use backend tf or auto"),
    ],
)
def test_commands_that_need_the_engine_refuse(words, remedy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "params.yaml").write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "run" / "tasks.json").write_text(
        '{"vocabulary_hash": "h", "tasks": '
        '[{"name": "en-fr", "source": "en", "target": "fr", "decoder": 0}]}'
    )
    assert cli.main(words.split()) == 2
    message = capsys.readouterr().err
    assert REASON in message
    assert remedy in message


def test_runs_of_older_versions_and_damaged_files_have_our_own(tmp_path):
    assert sublayers.saved_only_tensorflow(tmp_path) == ""
    for text in ("task: {model: {size: tiny}}", "task: 3", "a: [", "task: {model: null}"):
        (tmp_path / "params.yaml").write_text(text)
        assert sublayers.saved_only_tensorflow(tmp_path) == ""
