"""A run of `fit` that was killed resumes at the batch that its weights have seen."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl import schedules
from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.task_sources import ArraySource
from keras_mtl.errors import CheckpointError, ConfigError
from keras_mtl.training.fit.callbacks import TaskScheduling
from keras_mtl.training.step.optimizers import Adam

SIZES = {"large": 64, "small": 16}
STEPS, ROWS, KILLED = 7, 4, 32
# Keras begins the interrupted fifth epoch again, so six epochs are this number of batches.
TOTAL = KILLED + 2 * STEPS
# Batches whose loss is NaN: loss scaling skips the whole update, keras_mtl's Adam each variable.
BAD = (2, 3, 11, 29, 30, 31, 36)


@keras.saving.register_keras_serializable(package="tests")
class Counting(keras.Model):
    """A linear model that counts the steps it is trained on, in weights that a backup carries."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(1, kernel_initializer="ones", dtype=self.dtype_policy)
        self.steps = self.add_weight(
            shape=(200,), name="steps", initializer="zeros", trainable=False, dtype="int64"
        )

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        arrays, y, weight = data
        place = tf.reshape(arrays["step"], [1, 1])
        self.steps.assign(tf.tensor_scatter_nd_add(self.steps.value, place, [1]))
        return super().train_step((arrays["x"], y, weight))


def make_mixture(schedule="temperature", **parameters):
    generator = np.random.default_rng(1)
    sources = []
    for slope, (name, size) in enumerate(SIZES.items()):
        x = generator.normal(size=(size, 1)).astype(np.float32)
        sources.append(ArraySource(name, {"x": x, "y": x * (slope + 1)}))
    tasks = [schedules.TaskInfo(name, size, 1.0) for name, size in SIZES.items()]
    return Mixture(sources, schedules.create(schedule, tasks, **parameters), [Bucket(1, ROWS)], 3)


def element(batch):
    bad = tf.reduce_any(batch["step"] == tf.constant(BAD, tf.int64))
    y = tf.where(bad, np.float32("nan"), batch["y"])
    return {"x": batch["x"], "step": batch["step"]}, y, batch["weight"]


def finite_element(batch):
    return {"x": batch["x"], "step": batch["step"]}, batch["y"], batch["weight"]


# name: (policy, optimizer, what the batches are made of, steps of an execution)
CASES = {
    "loss scaling": ("mixed_float16", lambda: keras.optimizers.Adam(0.05), element, 1),
    "accumulation": (
        "float32",
        lambda: keras.optimizers.Adam(0.05, gradient_accumulation_steps=3),
        finite_element,
        1,
    ),
    "both, executions of 3": (
        "mixed_float16",
        lambda: keras.optimizers.Adam(0.05, gradient_accumulation_steps=5),
        element,
        3,
    ),
    "keras_mtl's Adam": (
        "float32",
        lambda: Adam(0.05, num_tasks=2, moments="per_task"),
        element,
        1,
    ),
    "keras_mtl's Adam, loss scaling": (
        "mixed_float16",
        lambda: Adam(0.05, num_tasks=2, moments="per_task"),
        element,
        1,
    ),
}


def make_model(case):
    policy, optimizer, _, execution = CASES[case]
    model = Counting(dtype=policy)
    model.build((None, 1))
    model.compile(optimizer(), "mse", jit_compile=False, steps_per_execution=execution)
    return model


def train(case, model, mixture, callbacks, steps=STEPS, epochs=6, initial_epoch=0):
    dataset = mixture.dataset(steps=steps, map_fn=CASES[case][2])
    model.fit(dataset, epochs=epochs, initial_epoch=initial_epoch, verbose=0, callbacks=callbacks)


class Kill(keras.callbacks.Callback):
    """Ends the process, as far as `fit` can tell, after a number of batches."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        # The argument counts the steps of an execution beyond the end of the epoch.
        if self.model.steps.numpy().sum() >= self.left:
            raise KeyboardInterrupt


def killed(case, model, mixture, *callbacks, after=KILLED):
    with pytest.raises(KeyboardInterrupt):
        train(case, model, mixture, [*callbacks, Kill(after)])


def backup(directory, save_freq):
    return keras.callbacks.BackupAndRestore(
        directory / "backup", save_freq=save_freq, delete_checkpoint=False
    )


def everything(model):
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


@functools.cache
def undisturbed(case):
    """All batches in one epoch of one process."""
    model, mixture = make_model(case), make_mixture()
    train(case, model, mixture, [TaskScheduling(mixture)], steps=TOTAL, epochs=1)
    return everything(model)


def assert_same(model, expected, case):
    assert model.steps.numpy().tolist() == [1] * TOTAL + [0] * (200 - TOTAL)
    assert all(np.isfinite(w).all() for w in expected)
    for number, (found, want) in enumerate(zip(everything(model), expected, strict=True)):
        names = [v.path for v in (*model.variables, *model.optimizer.variables)]
        if "task_plan" in names[number]:
            continue  # Made again by each process, from where it begins.
        np.testing.assert_array_equal(found, want, err_msg=f"{case}: {names[number]}")


@pytest.mark.parametrize(
    ("case", "order"),
    [
        ("both, executions of 3", "before the backup"),
        pytest.param("both, executions of 3", "after the backup", marks=pytest.mark.nightly),
        pytest.param(
            "keras_mtl's Adam, loss scaling", "before the backup", marks=pytest.mark.nightly
        ),
        # The parts of those above.
        pytest.param("loss scaling", "before the backup", marks=pytest.mark.nightly),
        pytest.param("loss scaling", "after the backup", marks=pytest.mark.nightly),
        pytest.param("accumulation", "before the backup", marks=pytest.mark.nightly),
        pytest.param("keras_mtl's Adam", "before the backup", marks=pytest.mark.nightly),
    ],
)
def test_a_backup_from_inside_an_epoch_resumes_at_exactly_its_batch(case, order, tmp_path):
    """In both orders; the second is not recommended, because an epoch's end is saved later."""
    save_freq = 8 if CASES[case][3] == 1 else 1

    def callbacks(mixture):
        both = [
            TaskScheduling(mixture, state_path=tmp_path / "tasks.npz"),
            backup(tmp_path, save_freq),
        ]
        return both if order.startswith("before") else both[::-1]

    model, mixture = make_model(case), make_mixture()
    killed(case, model, mixture, *callbacks(mixture))
    seen = int(model.steps.numpy().sum())
    iterations = int(model.optimizer.iterations)
    if "both" not in case:
        assert seen == KILLED
    if case != "keras_mtl's Adam":
        assert iterations < seen, "every batch was an update: the case tests nothing"
    resumed, again = make_model(case), make_mixture()
    train(case, resumed, again, callbacks(again))
    total = seen + 2 * STEPS
    assert again.step == total
    assert resumed.steps.numpy().tolist() == [1] * total + [0] * (200 - total)
    if total == TOTAL:
        assert_same(resumed, undisturbed(case), case)


@pytest.mark.nightly
def test_batches_after_the_backup_are_done_again(tmp_path):
    """Killed three batches after the backup of batch 32, twice."""
    case = "loss scaling"
    for after in (KILLED + 3, KILLED + 2):
        model, mixture = make_model(case), make_mixture()
        scheduling = TaskScheduling(mixture, state_path=tmp_path / "tasks.npz")
        killed(case, model, mixture, scheduling, backup(tmp_path, 8), after=after)
    resumed, again = make_model(case), make_mixture()
    scheduling = TaskScheduling(again, state_path=tmp_path / "tasks.npz")
    train(case, resumed, again, [scheduling, backup(tmp_path, 8)])
    assert_same(resumed, undisturbed(case), case)


class Updates(keras.callbacks.Callback):
    """Notes which batches were an update."""

    def __init__(self):
        super().__init__()
        self.done = []

    def on_train_batch_end(self, batch, logs=None):
        self.done.append(int(self.model.optimizer.iterations))


def test_skipped_updates_do_not_shift_the_tasks_of_the_optimizer():
    """Plans of tasks count the optimizer's iterations, which loss scaling holds back."""
    case = "keras_mtl's Adam, loss scaling"
    model, mixture, updates = make_model(case), make_mixture(), Updates()
    train(case, model, mixture, [TaskScheduling(mixture), updates], epochs=3)
    updated = np.diff([0, *updates.done]) > 0
    assert not updated[list(BAD[:3])].any()
    tasks = make_mixture().upcoming_tasks(0, 3 * STEPS)
    expected = np.bincount(tasks[updated], minlength=2)
    optimizer = model.optimizer.inner_optimizer
    assert optimizer.task_updates.numpy().tolist() == expected.tolist()
    assert expected.min() > 0
    model = make_model(case)
    model.steps_per_execution = 2
    with pytest.raises(ConfigError, match=r"optimizer scales losses.*steps_per_execution=1"):
        train(case, model, mixture, [TaskScheduling(mixture)])


@pytest.mark.parametrize(
    ("case", "way"),
    [
        ("accumulation", "load_weights"),
        ("loss scaling", "load_model"),
        pytest.param("loss scaling", "load_weights", marks=pytest.mark.nightly),
        pytest.param("accumulation", "load_model", marks=pytest.mark.nightly),
    ],
)
def test_a_model_checkpoint_that_was_loaded_before_fit(case, way, tmp_path):
    """The callback has not seen the model then; the state's file knows when weights were saved."""
    path = tmp_path / ("weights.weights.h5" if way == "load_weights" else "model.keras")
    model, mixture = make_model(case), make_mixture()
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, save_weights_only=way == "load_weights", save_freq=8
    )
    scheduling = TaskScheduling(mixture, state_path=tmp_path / "tasks.npz")
    killed(case, model, mixture, scheduling, checkpoint, after=KILLED + 1)
    if way == "load_model":
        resumed = keras.models.load_model(path)
    else:
        resumed = make_model(case)
        resumed.optimizer.build(resumed.trainable_variables)
        resumed.load_weights(path)
    again = make_mixture()
    scheduling = TaskScheduling(again, state_path=tmp_path / "tasks.npz")
    train(case, resumed, again, [scheduling], initial_epoch=4)
    assert_same(resumed, undisturbed(case), case)


@pytest.mark.nightly
@pytest.mark.parametrize("case", ["loss scaling", "accumulation"])
def test_without_a_file_the_weights_still_say_their_batch(case, tmp_path):
    """A schedule without state resumes exactly; one with state says what is lost."""
    model, mixture = make_model(case), make_mixture()
    killed(case, model, mixture, TaskScheduling(mixture), backup(tmp_path, 8))
    resumed, again = make_model(case), make_mixture()
    train(case, resumed, again, [TaskScheduling(again), backup(tmp_path, 8)])
    assert_same(resumed, undisturbed(case), case)
    adaptive = make_mixture("inverse_ratio")
    scheduling = TaskScheduling(adaptive, lambda: {"large": 0.5, "small": 0.5})
    third = make_model(case)
    with pytest.warns(UserWarning, match=r"trained on \d+ batches.*Give state_path"):
        train(case, third, adaptive, [scheduling, backup(tmp_path, 8)], epochs=7)
    assert adaptive.step == third.steps.numpy().sum() > TOTAL


@pytest.mark.parametrize("path", [None, "tasks.npz"])
def test_fit_that_was_interrupted_and_called_again(path, tmp_path):
    """In a notebook: the same objects, no backup, the batches that were done are not repeated."""
    case = "loss scaling"
    model, mixture = make_model(case), make_mixture()
    scheduling = TaskScheduling(mixture, state_path=path and tmp_path / path)
    killed(case, model, mixture, scheduling)
    assert scheduling.step == KILLED
    train(case, model, mixture, [scheduling], epochs=2)
    assert_same(model, undisturbed(case), case)


def test_weights_go_back_in_the_same_process(tmp_path):
    case = "loss scaling"
    model, mixture = make_model(case), make_mixture()
    scheduling = TaskScheduling(mixture)
    train(case, model, mixture, [scheduling], epochs=2)
    model.save_weights(tmp_path / "early.weights.h5")
    train(case, model, mixture, [scheduling], epochs=1)
    model.load_weights(tmp_path / "early.weights.h5")
    train(case, model, mixture, [scheduling], epochs=2)
    assert mixture.step == 4 * STEPS
    assert model.steps.numpy()[: 4 * STEPS].tolist() == [1] * 4 * STEPS
    train(case, model, mixture, [scheduling], epochs=3)
    model.load_weights(tmp_path / "early.weights.h5")
    with pytest.raises(
        CheckpointError, match=r"begins at batch \d+, .* was trained for 14 batches"
    ):
        train(case, model, mixture, [scheduling], epochs=1)


def test_files_of_older_versions(tmp_path):
    """Weights without a number of batches and a state without marks: iterations are taken."""
    case = "accumulation"
    path = tmp_path / "tasks.npz"
    model, mixture = make_model(case), make_mixture()
    killed(case, model, mixture, TaskScheduling(mixture, state_path=path), after=30)
    del model._keras_mtl_consumed_batches
    model.save_weights(tmp_path / "old.weights.h5")
    with np.load(path) as file:
        old = {key: file[key] for key in file.files if key != "marks"}
    np.savez(path, **old)
    resumed, again = make_model(case), make_mixture()
    resumed.optimizer.build(resumed.trainable_variables)
    resumed.load_weights(tmp_path / "old.weights.h5")
    scheduling = TaskScheduling(again, state_path=path)
    # 28 batches at the end of the epoch, and one update of three since then.
    with pytest.warns(UserWarning, match=r"does not contain .* be 31, from the 10 iterations"):
        train(case, resumed, again, [scheduling], epochs=1)
    assert again.step == 31 + STEPS


def test_saved_models_are_not_changed_by_the_count(tmp_path):
    """Weights, configuration and files are those of a model that `TaskScheduling` never saw."""
    case = "accumulation"
    model, mixture = make_model(case), make_mixture()
    before = [w.path for w in model.weights], model.get_config()
    train(case, model, mixture, [TaskScheduling(mixture)], epochs=1)
    assert ([w.path for w in model.weights], model.get_config()) == before
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    other = make_model(case)
    other.load_weights(tmp_path / "model.weights.h5")
    x = np.ones([3, 1], np.float32)
    for loaded in (other, keras.models.load_model(tmp_path / "model.keras")):
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
