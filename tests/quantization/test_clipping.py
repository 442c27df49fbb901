"""Schedules of clipping, against the values in Lingvo's `core/quant_utils_test.py`."""

import numpy as np
import pytest

from keras_mtl.quantization.clipping import (
    CLIP,
    FLOAT,
    QUANTIZE,
    FakeQuantizationSchedule,
    LinearClippingCap,
)

SCHEDULE = FakeQuantizationSchedule(5, 10, 15, start_cap=6.0, end_cap=1.0)


def test_the_linear_cap_has_the_values_of_lingvo():
    cap = LinearClippingCap(50, 100, start_cap=6.0, end_cap=1.0)
    expected = {25: 6, 50: 6, 60: 5, 70: 4, 80: 3, 90: 2, 100: 1, 110: 1}
    np.testing.assert_allclose([cap(step) for step in expected], list(expected.values()), rtol=1e-6)


def test_a_cap_without_length_is_a_step():
    cap = LinearClippingCap(3, 3, start_cap=4.0, end_cap=2.0)
    assert [float(cap(step)) for step in (2, 3, 4)] == [4.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("step", "phase", "limit"),
    [
        (0, FLOAT, None),
        (5, CLIP, 5.953125),
        (7, CLIP, 3.96875),
        (10, CLIP, 0.9921875),
        (11, CLIP, 0.9921875),
        (15, QUANTIZE, 0.9921875),
        (16, QUANTIZE, 0.9921875),
    ],
)
def test_phases_and_limits_are_those_of_lingvo(step, phase, limit):
    assert float(SCHEDULE.phase(step)) == phase
    if limit is not None:
        np.testing.assert_allclose(SCHEDULE.limit(step), limit, rtol=1e-6)
