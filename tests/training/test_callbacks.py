"""Schedules in `model.fit`: every example in turn, exact updates, exact continuation."""

import fit_case
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl import schedules
from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.task_sources import ArraySource, TranslationSource
from keras_mtl.errors import CheckpointError, ConfigError, InputError
from keras_mtl.events import read_events
from keras_mtl.models import Transformer
from keras_mtl.training.fit.callbacks import TaskEvaluation, TaskScheduling
from keras_mtl.training.fit.optimizer_tasks import OptimizerTasks
from keras_mtl.training.run.event_log import EventLog
from keras_mtl.training.step.optimizers import PLANNED_UPDATES, Adam

SIZES = {"large": 64, "small": 16}
STEPS, ROWS = 7, 4
BASELINES = {"large": 1.0, "small": 1.0}


def make_mixture(schedule="inverse_ratio", application=None, **parameters):
    generator = np.random.default_rng(1)
    sources, first = [], 0
    for slope, (name, size) in enumerate(SIZES.items()):
        x = generator.normal(size=(size, 1)).astype(np.float32)
        ids = np.arange(first, first + size)
        sources.append(ArraySource(name, {"x": x, "y": x * (slope + 1), "id": ids}))
        first += size
    tasks = [schedules.TaskInfo(name, size, 1.0) for name, size in SIZES.items()]
    made = schedules.create(schedule, tasks, **parameters)
    return Mixture(sources, made, [Bucket(1, ROWS)], seed=3, application=application)


class Regression(keras.Model):
    """A linear model that counts what it is trained on, in weights that a backup carries."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, kernel_initializer="ones")
        kept = {"initializer": "zeros", "trainable": False, "dtype": "int64"}
        self.steps = self.add_weight(shape=(200,), name="steps", **kept)
        self.examples = self.add_weight(shape=(sum(SIZES.values()),), name="examples", **kept)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        arrays, y, weight = data
        place = tf.reshape(arrays["step"], [1, 1])
        self.steps.assign(tf.tensor_scatter_nd_add(self.steps.value, place, [1]))
        self.examples.assign(
            tf.tensor_scatter_nd_add(
                self.examples.value, arrays["id"][:, None], tf.cast(weight, tf.int64)
            )
        )
        return super().train_step((arrays["x"], y, weight))


def make_model(optimizer="adam", **options):
    model = Regression()
    model.build((None, 1))
    model.compile(optimizer, "mse", **{"jit_compile": False, **options})
    return model


def element(batch):
    arrays = {name: batch[name] for name in ("x", "id", "step")}
    return arrays, batch["y"], batch["weight"]


def train(model, mixture, epochs, *callbacks):
    dataset = mixture.dataset(steps=STEPS, map_fn=element)
    return model.fit(dataset, epochs=epochs, verbose=0, callbacks=list(callbacks))


def assert_no_example_lost_or_repeated(model, mixture, steps):
    counts = model.steps.numpy()
    assert counts[:steps].tolist() == [1] * steps
    assert counts[steps:].sum() == 0
    examples = model.examples.numpy()
    assert examples.sum() == steps * ROWS
    for part in np.split(examples, [SIZES["large"]]):
        assert part.max() - part.min() <= 1
    assert mixture.step == steps


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_an_update_acts_on_the_next_epochs_first_batch(steps_per_execution):
    mixture, model = make_mixture(), make_model(steps_per_execution=steps_per_execution)
    progress = iter([0.5, 0.7, 0.8, 0.9])
    callback = TaskScheduling(mixture, lambda: {"large": next(progress), "small": 0.1}, BASELINES)
    history = train(model, mixture, 4, callback).history
    assert_no_example_lost_or_repeated(model, mixture, 4 * STEPS)
    small = history["probability/small"]
    assert 0.5 < small[0] < small[1] < small[3]
    assert history["score/large"] == [0.5, 0.7, 0.8, 0.9]
    # The draws are those of a mixture that was updated at the same steps by hand.
    by_hand = make_mixture()
    expected = np.zeros(sum(SIZES.values()), np.int64)
    for epoch, score in enumerate([0.5, 0.7, 0.8, 0.9]):
        batches = by_hand.batches(epoch * STEPS)
        for _ in range(STEPS):
            np.add.at(expected, next(batches).arrays["id"], 1)
        by_hand.adaptive.enter_scores((epoch + 1) * STEPS, {"large": score, "small": 0.1})
        by_hand.update((epoch + 1) * STEPS)
    assert model.examples.numpy().tolist() == expected.tolist()


def test_steps_per_epoch_is_the_number_of_the_dataset_or_an_error():
    """With the same number nothing is stale; with another one batches would be."""
    scores = {"large": 0.9, "small": 0.1}
    found = []
    for steps_per_epoch in (None, STEPS):
        mixture, model = make_mixture(), make_model()
        dataset = mixture.dataset(steps=STEPS, map_fn=element)
        callback = TaskScheduling(mixture, lambda: scores)
        fit = {"epochs": 3, "verbose": 0, "callbacks": [callback]}
        model.fit(dataset, steps_per_epoch=steps_per_epoch, **fit)
        assert_no_example_lost_or_repeated(model, mixture, 3 * STEPS)
        found.append(model.examples.numpy().tolist())
    assert found[0] == found[1]
    # Shorter: the rest of the iterator was drawn by old probabilities. Longer: it would end early.
    for steps_per_epoch in (3, 2 * STEPS):
        mixture, model = make_mixture(), make_model()
        dataset = mixture.dataset(steps=STEPS, map_fn=element)
        fit["callbacks"] = [TaskScheduling(mixture, lambda: scores)]
        message = rf"has {steps_per_epoch} steps.*made with steps=7.*omit steps_per_epoch"
        with pytest.raises(ConfigError, match=message):
            model.fit(dataset, steps_per_epoch=steps_per_epoch, **fit)
        assert model.steps.numpy().sum() == 0
    endless = mixture = make_mixture()
    fit["callbacks"] = [TaskScheduling(endless, lambda: scores)]
    with pytest.raises(ConfigError, match=r"dataset of fit is infinite.*dataset\(steps=S\)"):
        make_model().fit(endless.dataset(map_fn=element), **fit)
    with pytest.raises(ConfigError, match=r"has 5 steps.*made with steps=None.*dataset\(steps=5\)"):
        make_model().fit(endless.dataset(map_fn=element), steps_per_epoch=5, **fit)


def test_baselines_are_those_of_the_tasks():
    """`TaskInfo` has them already; an argument replaces those that it names."""
    mixture = make_mixture()
    scores = {"large": 0.9, "small": 0.1}
    callback = TaskScheduling(mixture, lambda: scores)
    history = train(make_model(), mixture, 2, callback).history
    assert callback.book.baselines.tolist() == [1.0, 1.0]
    assert history["probability/small"][0] > 0.8
    mixture = make_mixture()
    callback = TaskScheduling(mixture, lambda: scores, {"small": 0.1})
    history = train(make_model(), mixture, 2, callback).history
    assert callback.book.baselines.tolist() == [1.0, 0.1]
    assert history["probability/small"][0] < 0.5


def test_a_schedule_that_cannot_learn_says_so():
    with pytest.warns(UserWarning, match="'inverse_ratio' learns from scores.*has no evaluate"):
        train(make_model(), (mixture := make_mixture()), 1, TaskScheduling(mixture))
    with pytest.warns(UserWarning, match="'bandit' learns from the training losses"):
        train(make_model(), (mixture := make_mixture("bandit")), 1, TaskScheduling(mixture))
    stages = [{"name": "uniform", "steps": 5}, {"name": "bandit"}]
    mixture = make_mixture("piecewise", stages=stages)
    with pytest.warns(UserWarning, match="'piecewise' learns from the training losses"):
        train(make_model(), mixture, 1, TaskScheduling(mixture))


class Crash(keras.callbacks.Callback):
    """Ends the process, as far as `fit` can tell, after a number of batches."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


# First draws follow the scores, then learning rates do.
STAGES = [{"name": "inverse_ratio", "steps": 2 * STEPS}, {"name": "implicit"}]


def run(directory, crash_after=None, save_freq="epoch"):
    """Trains 4 epochs; returns model, mixture and callback."""
    mixture = make_mixture("piecewise", "learning_rate", stages=STAGES)
    model = make_model(Adam(0.01, num_tasks=2, moments="per_task"))

    def evaluate():
        weight = float(model.dense.kernel.numpy()[0, 0])
        return {"large": 1 / (1 + abs(weight - 1)), "small": 1 / (1 + abs(weight - 2))}

    log = EventLog(directory, tensorboard=False)
    scheduling = TaskScheduling(
        mixture,
        evaluate,
        BASELINES,
        state_path=directory / "tasks.npz",
        event_log=log,
    )
    backup = keras.callbacks.BackupAndRestore(
        directory / "backup", save_freq=save_freq, delete_checkpoint=False
    )
    callbacks = [scheduling, backup]
    if crash_after:
        callbacks.append(Crash(crash_after))
        with pytest.raises(KeyboardInterrupt):
            train(model, mixture, 4, *callbacks)
    else:
        train(model, mixture, 4, *callbacks)
    log.close()
    return model, mixture, scheduling


def without_times(directory):
    return [{k: v for k, v in event.items() if k != "seconds"} for event in read_events(directory)]


def moments(model):
    optimizer = model.optimizer
    return [*optimizer.momentums, *optimizer.velocities, optimizer.task_updates, optimizer.factors]


@pytest.mark.nightly  # test_fit_resume.py
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path):
    model, mixture, _ = run(tmp_path / "undisturbed")
    run(tmp_path / "killed", crash_after=2 * STEPS + 3)
    run(tmp_path / "killed", crash_after=STEPS + 1)
    resumed, resumed_mixture, callback = run(tmp_path / "killed")
    assert_no_example_lost_or_repeated(resumed, resumed_mixture, 4 * STEPS)
    pairs = zip(
        [*model.weights, *moments(model)], [*resumed.weights, *moments(resumed)], strict=True
    )
    for expected, weight in pairs:
        np.testing.assert_array_equal(expected.numpy(), weight.numpy())
    drawn = np.bincount(make_mixture("piecewise", stages=STAGES).upcoming_tasks(0, STEPS))
    assert drawn.min() > 0
    assert (model.optimizer.task_updates.numpy() >= drawn).all()
    assert len(set(mixture.scales(mixture.step))) == 2
    final = mixture.state(), resumed_mixture.state()
    assert {k: v.tolist() for k, v in final[0].items()} == {
        k: v.tolist() for k, v in final[1].items()
    }
    assert callback.book.counts.tolist() == [4, 4]
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "undisturbed")


@pytest.mark.nightly  # test_fit_resume.py
def test_a_backup_from_inside_an_epoch_goes_on_at_its_batch(tmp_path):
    run(tmp_path, crash_after=STEPS + 5, save_freq=2)
    model, mixture, _ = run(tmp_path, save_freq=2)
    # Keras begins the interrupted epoch again, so there are more steps than 4 epochs have; none of
    # them is a step that the backup had done.
    steps = int(model.steps.numpy().sum())
    assert steps > 4 * STEPS
    assert_no_example_lost_or_repeated(model, mixture, steps)


def test_fit_goes_on_where_an_earlier_fit_ended():
    mixture, model = make_mixture("proportional"), make_model()
    callback = TaskScheduling(mixture)
    train(model, mixture, 2, callback)
    train(model, mixture, 1, callback)
    assert_no_example_lost_or_repeated(model, mixture, 3 * STEPS)
    assert callback.step == 3 * STEPS


WITHOUT_SCORES = pytest.mark.filterwarnings("ignore:schedule .* learns from scores:UserWarning")


@WITHOUT_SCORES
def test_what_does_not_fit_is_named(tmp_path):
    mixture = make_mixture()
    with pytest.raises(ConfigError, match="unknown task 'lage'; did you mean 'large'"):
        TaskScheduling(mixture, baselines={"lage": 1.0})
    with pytest.raises(ConfigError, match="interval must be at least 1 epoch, got 0"):
        TaskScheduling(mixture, interval=0)
    with pytest.raises(ConfigError, match="evaluate has data of an unknown task 'smal'; did you"):
        TaskScheduling(mixture, TaskEvaluation({"smal": ()}))
    with pytest.raises(InputError, match="unknown task 'tiny'"):
        train(make_model(), mixture, 1, TaskScheduling(mixture, lambda: {"tiny": 1.0}, BASELINES))
    path = tmp_path / "tasks.npz"
    np.savez(path, a=np.arange(100))
    for damaged in (b"no state", b"", path.read_bytes()[:200]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"tasks\.npz is not a saved state"):
            train(make_model(), make_mixture(), 1, TaskScheduling(make_mixture(), state_path=path))
    path.unlink()
    mixture, model = make_mixture(), make_model()
    model.optimizer.iterations.assign(100)
    train(model, mixture, 1, TaskScheduling(mixture, state_path=path))
    with pytest.raises(CheckpointError, match="is newer than the model"):
        train(make_model(), mixture, 1, TaskScheduling(mixture, state_path=path))


class Pairs:
    """A store of sentence pairs in memory, as `TranslationSource` reads one."""

    def __init__(self, lengths):
        self._lengths = np.sort(np.array(lengths))
        self.source_tokens = self.target_tokens = int(self._lengths.sum())
        self.max_lengths_cumulative = np.cumsum(np.bincount(self._lengths))

    def __len__(self):
        return len(self._lengths)

    def lengths(self, indices):
        return self._lengths[indices], self._lengths[indices]

    def gather_flat(self, indices):
        lengths = np.repeat(self._lengths[indices], 2)
        return np.concatenate([10 + np.arange(n) for n in lengths]), lengths


@pytest.mark.nightly
def test_our_transformer_trains_in_fit_on_sentence_pairs():
    tasks = [schedules.TaskInfo("en-aa", 30, 1.0), schedules.TaskInfo("en-bb", 10, 1.0)]
    sources = [
        TranslationSource(task.name, Pairs([3, 5, 9] * (task.size // 3)), eos_id=2, tag_id=4 + i)
        for i, task in enumerate(tasks)
    ]
    schedule = schedules.create("inverse_ratio", tasks)
    mixture = Mixture(sources, schedule, [Bucket(8, 8), Bucket(12, 8)], seed=1)
    model = Transformer(
        vocabulary_size=32,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        encoder_layers=1,
        decoder_layers=1,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
    )
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
        jit_compile=False,
    )

    def pair(batch):
        decoder = tf.zeros_like(batch["task"])
        inputs = {"source": batch["source"], "target": batch["target"], "decoder": decoder}
        return inputs, batch["target"]

    scores = iter([0.2, 0.4, 0.6])
    callback = TaskScheduling(
        mixture, lambda: {"en-aa": next(scores), "en-bb": 0.1}, {"en-aa": 1.0, "en-bb": 1.0}
    )
    history = model.fit(
        mixture.dataset(steps=10, map_fn=pair), epochs=3, verbose=0, callbacks=[callback]
    ).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["probability/en-bb"][-1] > 0.8
    assert mixture.step == 30


@pytest.mark.parametrize(
    ("application", "options"),
    [
        ("gradient", {"steps_per_execution": 3, "jit_compile": False}),
        ("learning_rate", {"steps_per_execution": 3, "jit_compile": False}),
        ("learning_rate", {"jit_compile": True}),
    ],
)
def test_factors_of_an_implicit_schedule_act_in_fit(application, options):
    expected = fit_case.train_by_hand(application)
    found = fit_case.train(tf.distribute.get_strategy(), application, **options)
    assert expected["step"] == found["step"] == fit_case.STEPS * fit_case.EPOCHS
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert found["logged scales"][0] > 1.2
    assert found["logged scales"][1] < 0.9


@WITHOUT_SCORES
def test_factors_need_an_application_that_fits():
    with pytest.raises(ConfigError, match=r"Mixture\(..., application='gradient'\)"):
        TaskScheduling(make_mixture("implicit"))
    with pytest.raises(ConfigError, match="application = 'rate'"):
        make_mixture("implicit", "rate")
    mixture = make_mixture("implicit", "learning_rate")

    def fit(optimizer, **options):
        callback = TaskScheduling(mixture, None, BASELINES)
        return train(make_model(optimizer, **options), mixture, 1, callback)

    with pytest.raises(ConfigError, match=r"optimizer is 'Adam'.*num_tasks=2, moments='scaled'"):
        fit(keras.optimizers.Adam())
    with pytest.raises(ConfigError, match="num_tasks=3, but the mixture has 2 tasks"):
        fit(Adam(num_tasks=3, moments="per_task"))
    with pytest.raises(ConfigError, match="steps_per_execution is 600, but at most 512"):
        fit(Adam(num_tasks=2, moments="per_task"), steps_per_execution=PLANNED_UPDATES + 88)
    sources = [ArraySource(n, {"x": np.ones((9, 1), np.float32)}) for n in SIZES]
    tasks = [schedules.TaskInfo(n, 9, 1.0) for n in SIZES]
    mixed = Mixture(
        sources,
        schedules.create("implicit", tasks),
        [Bucket(1, 4)],
        1,
        "example",
        application="learning_rate",
    )
    with pytest.raises(ConfigError, match="requires batches with one task"):
        OptimizerTasks(mixed).start(make_model(Adam(num_tasks=2, moments="per_task")))
    with pytest.warns(UserWarning, match="learning_rate with shared -0.035"):
        OptimizerTasks(mixture).start(make_model(Adam(num_tasks=2)))


def test_distribution_that_fit_cannot_use_is_refused(monkeypatch):
    callback = TaskScheduling(make_mixture())
    several = object.__new__(tf.distribute.MultiWorkerMirroredStrategy)
    model = Regression()
    model._distribute_strategy = several
    with pytest.raises(ConfigError, match="cannot train on several workers"):
        callback.set_model(model)
    monkeypatch.setattr(keras.distribution, "distribution", lambda: "ModelParallel")
    with pytest.raises(ConfigError, match=r"keras\.distribution has no effect"):
        callback.set_model(Regression())
