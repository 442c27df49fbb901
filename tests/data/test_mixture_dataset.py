"""A mixture as tf.data: for a custom loop, for replicas and for model.fit."""

import collections
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl import schedules
from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.task_sources import ArraySource
from keras_mtl.errors import ConfigError
from keras_mtl.schedules import TaskInfo

INFOS = [TaskInfo("a", 60, baseline=1.0), TaskInfo("b", 10, baseline=1.0)]


class TextSource(ArraySource):
    """Rows of varying length without a store: example i has i % 3 + 1 tokens after sorting."""

    padded_arrays = 2

    def __init__(self, name, size):
        self.spec = {key: (np.dtype(np.int32), (None,)) for key in ("source", "target")}
        self.name, self.size = name, size
        self._lengths = np.sort(np.arange(size) % 3 + 1)
        self.elements = 2 * int(self._lengths.sum())
        self.cumulative_lengths = np.cumsum(np.bincount(self._lengths))

    def lengths(self, indices):
        return self._lengths[indices]

    def gather(self, indices, length):
        mask = np.arange(length) < self._lengths[indices][:, None]
        rows = np.where(mask, indices[:, None] + 1, 0).astype(np.int32)
        return {"source": rows, "target": rows + mask}


def text_mixture(schedule="uniform", granularity="batch"):
    sources = [TextSource(info.name, info.size) for info in INFOS]
    buckets = (Bucket(2, 8), Bucket(3, 4))
    return Mixture(sources, schedules.create(schedule, INFOS), buckets, 5, granularity)


def array_mixture(schedule="inverse_ratio", granularity="batch", **options):
    rng = np.random.default_rng(0)
    sources = [
        ArraySource(i.name, {"x": rng.normal(size=(i.size, 3)).astype("f4"), "y": np.ones(i.size)})
        for i in INFOS
    ]
    made = schedules.create(schedule, INFOS)
    return Mixture(sources, made, (Bucket(1, 8),), 5, granularity, **options)


def learn(mixture, step, value):
    mixture.adaptive.enter_scores(1, {"a": 1.0, "b": value})
    return mixture.update(step)


def test_elements_are_the_batches():
    mixture = text_mixture()
    dataset = mixture.dataset(3)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    assert dataset.element_spec == {
        "source": tf.TensorSpec((None, None), tf.int32),
        "target": tf.TensorSpec((None, None), tf.int32),
        "task": tf.TensorSpec((None,), tf.int32),
        "weight": tf.TensorSpec((None,), tf.float32),
        "step": tf.TensorSpec((), tf.int64),
    }
    expected = text_mixture().batches(3)
    for element, batch in zip(dataset.take(20).as_numpy_iterator(), expected, strict=False):
        assert element["step"] == batch.step
        np.testing.assert_array_equal(element["source"], batch.arrays["source"])
        np.testing.assert_array_equal(element["target"], batch.arrays["target"])
        np.testing.assert_array_equal(element["task"], batch.tasks)
        np.testing.assert_array_equal(element["weight"], batch.weights())


def test_prefetching_leaves_the_state_exact():
    mixture = text_mixture("inverse_ratio")
    iterator = iter(mixture.dataset(0, prefetch=16))
    whole = [next(iterator)["source"].numpy() for _ in range(10)]
    state = mixture.state(4)
    again = text_mixture("inverse_ratio")
    again.restore(state)
    for expected, element in zip(whole[4:], again.dataset(), strict=False):
        np.testing.assert_array_equal(element["source"], expected)
    # After an update the old iterator ends with an error, a new one begins at that step. If the old
    # one were exactly at that step it would continue.
    next(iterator)
    assert learn(mixture, 10, 0.01)
    with pytest.raises(tf.errors.FailedPreconditionError, match="infinite number of elements"):
        collections.deque(itertools.islice(iterator, 100), maxlen=0)
    tasks = [int(element["task"][0]) for element in mixture.dataset(10).take(30)]
    assert np.mean(tasks) > 0.7


def test_replicas_share_the_rows_of_each_step():
    whole = text_mixture().dataset(0).take(12).as_numpy_iterator()
    parts = list(text_mixture().dataset(0, replicas=2).take(24).as_numpy_iterator())
    for step, element in enumerate(whole):
        first, second = parts[2 * step], parts[2 * step + 1]
        assert first["step"] == second["step"] == step
        rows = np.stack([first["source"], second["source"]], axis=1)
        np.testing.assert_array_equal(rows.reshape(element["source"].shape), element["source"])
        # Empty rows are spread, too: no replica idles while another has all the work.
        assert abs(first["weight"].sum() - second["weight"].sum()) <= 1
    with pytest.raises(ConfigError, match="3 replicas cannot share"):
        text_mixture().dataset(replicas=3)


def test_distributed_over_replicas():
    mixture = text_mixture(granularity="example")
    devices = tf.config.list_physical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(len(devices))])
    dataset = strategy.distribute_datasets_from_function(
        lambda context: mixture.dataset(0, replicas=strategy.num_replicas_in_sync)
    )
    element = next(iter(dataset))
    assert int(strategy.experimental_local_results(element["step"])[0]) == 0


def test_fit_goes_on_from_epoch_to_epoch_and_follows_the_schedule():
    """One epoch = `steps` batches, none skipped or repeated, also where Keras peeks at one."""
    mixture = array_mixture()
    seen = []

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs):
            return self.dense(inputs["x"])

        def train_step(self, data):
            tf.numpy_function(seen.append, [data[0]["step"][0]], [])
            return super().train_step(data)

    class Update(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert mixture.step == 5 * (epoch + 1)
            learn(mixture, mixture.step, 0.01 if epoch else 1.0)

    def to_fit(element):
        # Keras takes the first dimension of every input for the batch's.
        steps = tf.fill(tf.shape(element["task"]), element["step"])
        inputs = {"x": element["x"], "step": steps, "task": element["task"]}
        return inputs, element["y"], element["weight"]

    model = Model()
    model.compile("sgd", "mse", jit_compile=False)
    dataset = mixture.dataset(steps=5, map_fn=to_fit)
    assert int(dataset.cardinality()) == 5
    model.fit(dataset, epochs=4, verbose=0, callbacks=[Update()])
    assert [int(step) for step in seen] == list(range(20))
    assert mixture.step == 20
    assert mixture.probabilities(20)[1] > 0.8


def test_an_iteration_that_is_left_early_does_not_count():
    mixture = array_mixture()
    for steps in (2, 3, 7):
        for _ in mixture.dataset(steps=steps, prefetch=50):
            break
        assert mixture.step == 0
    assert [int(e["step"]) for e in mixture.dataset(steps=3)] == [0, 1, 2]
    assert [int(e["step"]) for e in mixture.dataset(steps=3)] == [3, 4, 5]
    for options in ({"steps": 1}, {"steps": 4, "start_step": 2}):
        with pytest.raises(ConfigError, match="give steps >= 2 without start_step"):
            mixture.dataset(**options)


@pytest.mark.parametrize("granularity", ["batch", "example"])
def test_weights_carry_the_factors_of_an_implicit_schedule(granularity):
    mixture = array_mixture("implicit", granularity, application="gradient")
    learn(mixture, 0, 0.4)
    factors = mixture.scales(0)
    assert factors[0] < 1 < factors[1]
    seen = set()
    for element in mixture.dataset().take(12):
        weight, tasks = element["weight"].numpy(), element["task"].numpy()
        used = weight > 0
        np.testing.assert_allclose(weight[used], factors[tasks[used]], rtol=1e-6)
        seen |= set(tasks[used].tolist())
    assert seen == {0, 1}


@pytest.mark.parametrize("draw", ["random", "blend"])
def test_upcoming_tasks_are_those_that_come(draw):
    mixture = array_mixture("proportional", draw=draw)
    upcoming = mixture.upcoming_tasks(3, 20)
    batches = mixture.batches(3)
    assert upcoming.tolist() == [next(batches).task for _ in range(20)]
    assert len(set(upcoming.tolist())) == 2


def test_the_data_room_imports_no_tensorflow(run_python):
    modules = "mixture, mixture_dataset, batch_plan, pools, task_sources, permutation"
    done = run_python(
        f"import sys; from keras_mtl.data import {modules}; assert 'tensorflow' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr
