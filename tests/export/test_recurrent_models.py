"""Recurrent models translate the same from the run directory and from both SavedModels."""

import numpy as np
import pytest

from keras_mtl.cli import main
from keras_mtl.decoding.translators import load_translator
from tests.decoding.tiny_model import LINES, make_model_dir

RNMT = {"architecture": "rnmt", "intermediate_dim": None, "activation_dropout": None}
FIELDS = ("text", "ids", "ended")


@pytest.mark.nightly  # Trains and exports; tests of the model and of the operations protect parts.
@pytest.mark.parametrize(
    ("sharing", "fields"),
    [
        ("encoder", RNMT | {"tie_embeddings": False, "decoder_layers": 3}),
        ("full", {"architecture": "hybrid", "encoder_layers": 2, "decoder_layers": 2}),
    ],
    ids=["rnmt", "hybrid"],
)
def test_translations_are_equal_in_all_formats(sharing, fields, tmp_path, capsys):
    run = tmp_path / "run"
    make_model_dir(run, sharing, steps=60, **fields)
    expected = load_translator(run).hypotheses(LINES, "en-fr", alignments=True)
    assert len({each[0].text for each in expected}) > 2  # It has learned something.
    for form in ("saved_model", "saved_model_native"):
        words = ["--model_dir", str(run), "--output", str(tmp_path / form), "--format", form]
        assert main.main(["export", *words]) == 0
        found = load_translator(tmp_path / form).hypotheses(LINES, "en-fr", alignments=True)
        for ours, theirs in zip(expected, found, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                for field in FIELDS:
                    assert getattr(one, field) == getattr(other, field), form
                for field in ("score", "token_scores", "alignment"):
                    expected_value, value = getattr(one, field), getattr(other, field)
                    assert (value is None) == (expected_value is None), form
                    if value is not None:  # An empty line has none.
                        np.testing.assert_allclose(value, expected_value, rtol=1e-4, atol=1e-5)
    # Options that only the operations of the C++ search have reach them.
    words = ["--model_dir", str(run), "--output", str(tmp_path / "more")]
    words += [
        "--format",
        "saved_model_native",
        "--options",
        "beam_size=2,merge_paths=true,eoc_id=5",
    ]
    assert main.main(["export", *words]) == 0
    assert load_translator(tmp_path / "more").translate(LINES, "en-fr")[1] == ""
    capsys.readouterr()
    assert main.main(["inspect", "--model", str(tmp_path / "more")]) == 0
    assert "exported SavedModel with C++ operations" in capsys.readouterr().out
