"""What benchmarks measure is what they say."""

import importlib.util
from pathlib import Path

import numpy as np

from keras_mtl.engine.arrays import transformer_arrays
from keras_mtl.schedules import TaskInfo


def load(name):
    path = Path(__file__).parents[1] / f"benchmarks/{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_factors_act_as_the_warning_and_the_reference_say():
    from keras_mtl.training.step.scaling import DRIFT

    module = load("adam_factors")
    assert set(DRIFT) == {(a, m) for a in module.APPLICATIONS for m in module.MOMENTS}
    for (application, moments), figure in DRIFT.items():
        # A short simulation: its results for other seeds have a standard deviation of 0.01.
        assert abs(module.drift(application, moments, 15_000, seed=5) - figure) < 0.01


def test_random_weights_are_those_of_the_keras_model():
    module = load("random_transformer")
    sizes = {"vocabulary_size": 50, "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 32}
    model = module.RandomTransformer({**sizes, "encoder_layers": 1, "decoder_layers": 2}, seed=1)
    have = transformer_arrays(model)
    want = transformer_arrays(module.keras_transformer(model))
    assert list(have) == list(want)
    for name, array in have.items():
        np.testing.assert_allclose(array, want[name], atol=3e-5, err_msg=name)


def test_schedules_cost_less_than_one_percent_of_a_step():
    module = load("schedule_costs")
    sizes = np.geomspace(100_000, 1000, 100)
    infos = [TaskInfo(f"t{i}", size, baseline=0.5) for i, size in enumerate(sizes)]
    shares = module.costs(infos, steps=4000, interval=100, step_ms=100.0)
    assert {"aioli", "ado", "uniform"} <= set(shares)
    assert max(shares.values()) < 0.01, shares
