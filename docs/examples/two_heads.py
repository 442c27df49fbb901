"""Two classification tasks with different classes: a shared network with a head for each task.

    python docs/examples/two_heads.py --directory /somewhere/run

The program generates points in a plane. Task "sector" asks in which of three sectors a point lies
(2,000 examples), task "ring" whether it is near the circle of radius 1 (150 examples). Each batch
belongs to one task. The index of the task decides which head learns: the rows of the other head get
the weight 0. If you start the program again with the same directory, training resumes where it was
stopped.
"""

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mtl import ArraySource, Bucket, Mixture, TaskEvaluation, TaskScheduling, schedules

CLASSES = {"sector": 3, "ring": 2}
SIZES = {"sector": 2000, "ring": 150}
# Mean accuracy of three models trained on only this task with 500 updates.
BASELINES = {"sector": 0.986, "ring": 0.931}
TEST_SIZE = 300


def make_task(name: str, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points float32[size, 2] and labels int32[size]."""
    points = np.random.default_rng(seed).normal(size=(size, 2)).astype(np.float32)
    if name == "sector":
        angles = np.arctan2(points[:, 1], points[:, 0]) + np.pi
        labels = np.floor(angles / (2 * np.pi) * 3).clip(0, 2)
    else:
        labels = np.abs(np.linalg.norm(points, axis=1) - 1) < 0.5
    return points, labels.astype(np.int32)


def make_model() -> keras.Model:
    """A shared network; the output of each task is named after it."""
    points = keras.Input((2,))
    hidden = keras.layers.Dense(64, activation="relu")(points)
    hidden = keras.layers.Dense(64, activation="relu")(hidden)
    logits = {name: keras.layers.Dense(n, name=name)(hidden) for name, n in CLASSES.items()}
    model = keras.Model(points, logits)
    model.compile(
        keras.optimizers.Adam(0.003),
        {name: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for name in CLASSES},
        # `metrics` would count the rows of the other task.
        weighted_metrics={name: ["accuracy"] for name in CLASSES},
    )
    return model


def for_heads(batch: dict[str, Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Inputs, labels and weights for each head, of a batch of the mixture or of arrays."""
    labels, weights = {}, {}
    for number, name in enumerate(CLASSES):
        mine = batch["task"] == number
        # The label of another task may not be a class of this head.
        labels[name] = keras.ops.where(mine, batch["label"], 0)
        weights[name] = keras.ops.where(mine, batch["weight"], 0.0)
    return batch["point"], labels, weights


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Trains; returns the accuracy of each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=50, help="batches per epoch")
    parser.add_argument("--directory", type=Path, required=True, help="directory of the run")
    options = parser.parse_args(argv)
    keras.utils.set_random_seed(1)

    sources, tests = [], {}
    for number, (name, size) in enumerate(SIZES.items()):
        points, labels = make_task(name, size, seed=number)
        sources.append(ArraySource(name, {"point": points, "label": labels}))
        points, labels = make_task(name, TEST_SIZE, seed=100 + number)
        tests[name] = for_heads(
            {
                "point": points,
                "label": labels,
                "task": np.full(TEST_SIZE, number, np.int32),
                "weight": np.ones(TEST_SIZE, np.float32),
            }
        )
    tasks = [schedules.TaskInfo(name, size, BASELINES[name]) for name, size in SIZES.items()]
    schedule = schedules.create("inverse_ratio", tasks, alpha=4)
    mixture = Mixture(sources, schedule, [Bucket(length=1, rows=32)], seed=1)
    evaluation = TaskEvaluation(tests, {name: f"{name}_accuracy" for name in CLASSES})
    scheduling = TaskScheduling(mixture, evaluation, state_path=options.directory / "tasks.npz")
    backup = keras.callbacks.BackupAndRestore(options.directory / "backup", delete_checkpoint=False)
    history = (
        make_model()
        .fit(
            mixture.dataset(steps=options.steps, map_fn=for_heads),
            epochs=options.epochs,
            callbacks=[scheduling, backup],
            verbose=0,
        )
        .history
    )
    scores = dict(zip(CLASSES, scheduling.book.scores.tolist(), strict=True))
    print(f"{'task':10}{'accuracy':>10}{'probability of the last epochs':>32}")
    for name, score in scores.items():
        last = " ".join(f"{p:.2f}" for p in history.get(f"probability/{name}", [])[-5:])
        print(f"{name:10}{score:10.3f}{last:>32}")
    return scores


if __name__ == "__main__":
    main()
