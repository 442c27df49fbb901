"""A model with other sub-layers than the default ones translates the same in every format."""

import pytest

from keras_mtl.cli import main
from keras_mtl.decoding.translators import load_translator
from tests.decoding.tiny_model import LINES, make_model_dir
from tests.training.tiny_run import OTHER_SUBLAYERS


@pytest.mark.nightly  # Exports in each format; tests of the parts protect the same.
@pytest.mark.parametrize("sharing", ["full", "encoder"])
def test_translations_are_equal_in_all_formats(sharing, tmp_path):
    run = tmp_path / "run"
    make_model_dir(run, sharing, **OTHER_SUBLAYERS, encoder_layers=2, decoder_layers=2)
    expected = load_translator(run, backend="tf").translate(LINES, "en-fr")
    assert len(set(expected)) > 2  # It has learned something.
    formats = {"native": run}
    for form in ("saved_model", "saved_model_native", "engine"):
        formats[form] = tmp_path / form
        words = ["--model_dir", str(run), "--output", str(tmp_path / form), "--format", form]
        assert main.main(["export", *words]) == 0
    for form, path in formats.items():
        options = {"backend": "native"} if form == "native" else {}
        assert load_translator(path, **options).translate(LINES, "en-fr") == expected, form
