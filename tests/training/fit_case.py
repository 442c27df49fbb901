"""A regression of two tasks in ``model.fit`` under an implicit schedule, and the same by hand."""

import keras
import numpy as np
import tensorflow as tf

from keras_mtl import schedules
from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.task_sources import ArraySource
from keras_mtl.training.fit.callbacks import TaskEvaluation, TaskScheduling
from keras_mtl.training.step.optimizers import Adam

SIZES = {"large": 62, "small": 14}
BASELINES = {"large": 1.0, "small": 1.0}
STEPS, ROWS, EPOCHS = 10, 8, 3
# Of each epoch's end; the last one acts on nothing any more.
SCORES = [{"large": 0.9, "small": 0.1}, {"large": 0.5, "small": 0.7}, {"large": 0.5, "small": 0.7}]


def infos():
    return [schedules.TaskInfo(name, size, 1.0) for name, size in SIZES.items()]


def examples():
    rng = np.random.default_rng(1)
    found = {}
    for slope, (name, size) in enumerate(SIZES.items()):
        x = rng.normal(size=(size, 2)).astype(np.float32)
        found[name] = (x, x[:, :1] * (slope + 1) + slope)
    return found


def make_mixture(application, schedule="implicit"):
    sources = [ArraySource(name, {"x": x, "y": y}) for name, (x, y) in examples().items()]
    made = schedules.create(schedule, infos())
    return Mixture(sources, made, [Bucket(1, ROWS)], seed=3, application=application)


def element(batch):
    return batch["x"], batch["y"], batch["weight"]


def make_model(application, **options):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")],
    )
    if application == "gradient":
        optimizer = keras.optimizers.Adam(0.05)
    else:
        optimizer = Adam(0.05, num_tasks=2, moments="per_task")
    model.compile(optimizer, "mse", **options)
    return model


def result(model, mixture):
    weights = {f"weight {i}": w.numpy() for i, w in enumerate(model.trainable_weights)}
    return weights | {"step": mixture.step, "scales": mixture.scales(mixture.step)}


def train(strategy, application, **options):
    """Trains with `fit`, with the scores above."""
    mixture = make_mixture(application)
    with strategy.scope():
        model = make_model(application, **options)
    scores = iter(SCORES)
    current = {}

    def scripted(model, data):
        if data == "large":
            current.update(next(scores))
        return current[data]

    evaluation = TaskEvaluation({name: name for name in SIZES}, scripted)
    dataset = mixture.dataset(steps=STEPS, map_fn=element)
    scheduling = TaskScheduling(mixture, evaluation, BASELINES)
    history = model.fit(dataset, epochs=EPOCHS, verbose=0, callbacks=[scheduling]).history
    return {**result(model, mixture), "logged scales": history["scale/small"]}


def train_by_hand(application):
    """The same in a custom loop: the result that `fit` must give."""
    mixture, model = make_mixture(application), make_model(application)
    model.optimizer.build(model.trainable_variables)
    for scores in SCORES:
        start = mixture.step
        factors = mixture.scales(start)
        batches = mixture.batches(start)
        for _ in range(STEPS):
            batch = next(batches)
            with tf.GradientTape() as tape:
                error = tf.square(model(batch.arrays["x"]) - batch.arrays["y"])[:, 0]
                loss = tf.reduce_sum(error * batch.weights()) / ROWS
                if application == "gradient":
                    loss *= factors[batch.task]
            if application == "learning_rate":
                model.optimizer.set_factors(factors)
                model.optimizer.set_task(batch.task)
            variables = model.trainable_variables
            model.optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        mixture.adaptive.enter_scores(start + STEPS, scores)
        mixture.update(start + STEPS)
    return result(model, mixture)
