"""Steps with logits in chunks and recomputed layers are those without, in all parts of the trainer.

Tests of the model protect the same on a smaller scale.
"""

import json

import numpy as np
import pytest
import trainer_case

from tests import processes

pytestmark = pytest.mark.nightly

DROPOUT = {"dropout": 0.3}
ONE_DEVICE = {
    "accumulation": {"halves": True, "accumulation": 2},
    "packed, a gradient for each task": {
        "mixed": True,
        "pack": True,
        "balancing": "pcgrad",
        "scales": [1.5, 0.5],
    },
    "float16": {"precision": "mixed_float16"},
    "XLA, bfloat16": {"precision": "mixed_bfloat16", "jit": True},
    "XLA, packed, moments per task": {"jit": True, "pack": True, "moments": "per_task"},
    "decoder per language": {"sharing": "encoder"},
    "XLA, packed, other sub-layers": {"jit": True, "pack": True, "other_sublayers": True},
}
# Logical devices are set once in a process.
MIRRORED = {
    "two replicas": {"replicas": 2},
    "two replicas, other sub-layers": {"replicas": 2, "other_sublayers": True},
}
TOLERANCES = {"float16": 2e-3, "XLA, bfloat16": 5e-3}


def run(cases, directory):
    both = [
        {**case, **DROPOUT, "saving": saving} for case in cases.values() for saving in (False, True)
    ]
    # Again, to compare the bits.
    both.append(both[-1])
    (directory / "cases.json").write_text(json.dumps(both))
    processes.run(trainer_case.main, directory)
    results = [dict(np.load(directory / f"{number}.npz")) for number in range(len(both))]
    for key, value in results[-1].items():
        np.testing.assert_array_equal(value, results[-2][key], err_msg=key)
    return dict(zip(cases, zip(results[::2], results[1::2], strict=False), strict=True))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return {
        name: pair
        for cases in (ONE_DEVICE, MIRRORED)
        for name, pair in run(cases, tmp_path_factory.mktemp("cases")).items()
    }


@pytest.mark.parametrize("name", [*ONE_DEVICE, *MIRRORED])
def test_a_step_is_the_same(results, name):
    plain, saving = results[name]
    tolerance = TOLERANCES.get(name, 2e-5)
    assert plain.keys() == saving.keys()
    assert plain["total/skipped"] == 0
    for key, value in plain.items():
        if key.startswith(("total/", "after/")):
            np.testing.assert_allclose(
                saving[key], value, rtol=100 * tolerance, atol=tolerance, err_msg=key
            )
        if key.startswith("total/"):
            np.testing.assert_allclose(saving[key], value, rtol=5 * tolerance, err_msg=key)
