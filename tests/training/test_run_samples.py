"""What a run shows of its model: sample translations, attention, histograms, model_analysis.txt."""

import importlib
import json

import keras
import numpy as np
import pytest

from keras_mtl.evaluation.samples import take_samples
from keras_mtl.training.run.event_log import EventLog, Scores
from keras_mtl.training.run.model_analysis import model_analysis

SAMPLE = {"source": "a | b", "reference": "c", "translation": "<d>"}
ATTENTION = {
    "source_tokens": ["<2fr>", "\u2581a", "$", "</s>"],
    "tokens": ["\u2581d", "</s>"],
    "alignment": [[0.1, 0.7, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]],
}


def test_samples_are_evenly_spaced_and_do_not_depend_on_translations():
    sources = [f"s{i}" for i in range(10)]
    found = take_samples("en-fr", sources, sources, ["t"] * 10, 3)
    assert [sample["source"] for sample in found] == ["s1", "s5", "s8"]
    assert found[0] == {"source": "s1", "reference": "s1", "translation": "t"}
    assert take_samples("en-fr", sources[:1], sources[:1], ["t"], 3)[0]["source"] == "s0"
    assert take_samples("en-fr", [], [], [], 3) == []
    assert take_samples("en-fr", sources, sources, ["t"] * 10, 0) == []


def evaluated(log, step, **more):
    log.evaluation(step, {"a": Scores({"chrf": 30.0}, 1.0, [SAMPLE])}, **more)


def lines(directory):
    return [json.loads(line) for line in (directory / "samples.jsonl").read_text().splitlines()]


def test_a_resumed_run_drops_the_samples_after_its_checkpoint(tmp_path):
    with EventLog(tmp_path, tensorboard=False) as log:
        evaluated(log, 10)
        evaluated(log, 20, effective_step=25)
        evaluated(log, 30)
    expected = {"event": "samples", "step": 10, "samples": {"a": [SAMPLE]}}
    assert lines(tmp_path)[0] == expected
    assert lines(tmp_path)[1]["effective_step"] == 25
    with open(tmp_path / "samples.jsonl", "a") as file:
        file.write('{"event": "sam')  # Killed in the middle of a write.
    with EventLog(tmp_path, tensorboard=False) as log, pytest.warns(UserWarning, match="incompl"):
        log.resume(24)
    assert lines(tmp_path) == [expected]


def test_a_run_without_translations_has_no_file_of_samples(tmp_path):
    with EventLog(tmp_path, tensorboard=False) as log:
        log.evaluation(10, {"a": Scores({"perplexity": 30.0}, 1.0)})
    assert not (tmp_path / "samples.jsonl").exists()


def test_tensorboard_shows_samples_attention_and_histograms(tmp_path):
    with EventLog(tmp_path) as log:
        log.evaluation(10, {"a": Scores({"chrf": 30.0}, 1.0, [SAMPLE, SAMPLE | ATTENTION])})
        log.histograms(10, {"weights": np.array([[0.0, 1.0], [3.0, np.nan]]), "empty": np.zeros(0)})
    module = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = module.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (text,) = events.Tensors("samples/a")
    assert "| a \\| b | c | &lt;d> |" in text.tensor_proto.string_val[0].decode()
    assert events.Tags()["images"] == ["attention/a/1"]
    (image,) = events.Images("attention/a/1")
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert image.width > 50
    assert events.Tags()["histograms"] == ["weights"]
    (histogram,) = events.Histograms("weights")
    value = histogram.histogram_value
    assert (value.min, value.max, value.num, value.sum) == (0.0, 3.0, 3.0, 4.0)
    assert len(value.bucket) == len(value.bucket_limit)
    assert sum(value.bucket) == 3


def test_model_analysis_lists_each_variable_and_the_totals():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, name="one", trainable=False)]
    )
    text = model_analysis(model)
    kernel = next(line for line in text.splitlines() if "3 x 4" in line)
    assert kernel.split()[-3:] == ["float32", "12", "frozen"]
    totals = dict(line.split()[:2] for line in text.splitlines()[-2:])
    assert totals == {"all": "16", "trained": "0"}
