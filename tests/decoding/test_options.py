"""BeamOptions: every bad value is refused with its name, the value and what to do."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from keras_mtl.configuration.search_checks import LENGTH_PENALTIES
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.penalties import length_penalties
from keras_mtl.engine import library
from keras_mtl.errors import InputError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam_size=0: give a whole number of at least 1"),
        ({"beam_size": 2.0}, "beam_size=2.0: give a whole number"),
        ({"beam_size": True}, "beam_size=True"),
        ({"num_hypotheses": 5}, "num_hypotheses=5 is above beam_size=4"),
        ({"patience": 0}, "patience=0: give a finite number above 0"),
        ({"patience": float("nan")}, "patience=nan"),
        ({"patience": 0.5, "num_hypotheses": 4}, "patience=0.5: .* 2 finished .* at least 1"),
        ({"min_length": -1}, "min_length=-1"),
        ({"min_length": 9, "max_length": 8}, "min_length=9 is above max_length=8"),
        ({"max_length_factor": 0.0}, "max_length_factor=0.0"),
        ({"length_penalty": "pwer"}, "did you mean 'power'"),
        ({"alpha": -0.1}, "alpha=-0.1: give a finite number of at least 0"),
        ({"suppress": [1.5]}, "suppress contains 1.5"),
        ({"suppress": 7}, "suppress=7: give a list"),
        ({"early_exit": 1}, "early_exit=1: give true or false"),
        ({"beam_sise": 3}, "unknown decoding option 'beam_sise'; did you mean 'beam_size'"),
    ],
)
def test_refused(options, message):
    with pytest.raises(InputError, match=message):
        BeamOptions.from_mapping(options)


def test_max_length_of_a_sentence():
    options = BeamOptions(max_length=30, max_length_factor=1.5, max_length_offset=4, min_length=6)
    assert [options.sentence_max_length(n) for n in (0, 1, 3, 10, 100)] == [0, 6, 8, 19, 30]
    assert BeamOptions(max_length=30).sentence_max_length(1) == 30


def test_patience_rounds_half_up():
    assert [BeamOptions(beam_size=5, patience=p).max_finished for p in (0.5, 1, 1.5)] == [3, 5, 8]


def test_penalties_never_fall():
    """The exact score bound stands on this."""
    for name in LENGTH_PENALTIES:
        for alpha in (0.0, 0.3, 1.0, 2.5):
            table = length_penalties(BeamOptions(length_penalty=name, alpha=alpha), 400)
            assert table.dtype == np.float32
            assert (np.diff(table[1:]) >= 0).all()
    gnmt = length_penalties(BeamOptions(length_penalty="gnmt", alpha=0.6), 7)
    np.testing.assert_allclose(gnmt[7], 2**0.6, rtol=1e-6)  # ((5 + 7) / 6)^0.6


def test_python_and_cpp_have_the_same_options():
    """The one list in each language: `BeamOptions` and `cc/engine/beam_options.def`."""
    ours = {field.name: field.default for field in dataclasses.fields(BeamOptions)}
    ours["suppress"] = list(ours["suppress"])
    assert ours["max_length_factor"] is None  # Which is 0 in C++.
    ours["max_length_factor"] = 0.0
    theirs = library.core().option_defaults()
    assert theirs == ours
    assert {name: type(value) for name, value in theirs.items()} == {
        name: type(value) for name, value in ours.items()
    }


def test_options_load_no_tensorflow():
    code = (
        "import sys, keras_mtl.decoding as d; d.BeamOptions(); "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
