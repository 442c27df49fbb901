"""Three image classification tasks of unequal size in one Keras model, trained by `model.fit`.

    python docs/examples/image_tasks.py --schedule inverse_ratio --directory /somewhere/run

The program generates the images: stripes in four directions (4,000 images), one to four dots (600),
and a bright corner (150). The tasks share a small convolutional network; each has its own four
outputs. First the program trains a model on each task separately, which gives the baselines. Then
it trains one model on all tasks with a schedule. If you start it again with the same directory,
training resumes where it was stopped.
"""

import argparse
import json
import math
from pathlib import Path

import keras
import numpy as np

from keras_mtl import (
    Adam,
    ArraySource,
    Bucket,
    EventLog,
    Mixture,
    TaskEvaluation,
    TaskScheduling,
    schedules,
)

SIZES = {"stripes": 4000, "dots": 600, "corner": 150}
TEST_SIZE = 400
PIXELS, CLASSES, ROWS = 12, 4, 32


def make_task(name: str, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images float32[size, 12, 12, 1] with noise, and labels int32[size] in 0 to 3."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, size).astype(np.int32)
    y, x = np.mgrid[:PIXELS, :PIXELS] / PIXELS
    images = rng.normal(0, 0.5, (size, PIXELS, PIXELS))
    for image, label in zip(images, labels, strict=True):
        if name == "stripes":
            angle = label * math.pi / CLASSES
            wave = x * math.cos(angle) + y * math.sin(angle)
            image += np.sin(2 * math.pi * (3 * wave + rng.random()))
        elif name == "dots":
            for place in rng.choice(16, label + 1, replace=False):
                row, column = 3 * (place // 4), 3 * (place % 4)
                image[row : row + 2, column : column + 2] += 2
        else:
            row, column = divmod(int(label), 2)
            image[6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 0.3
    return images.astype(np.float32)[..., None], labels


def make_model(optimizer: keras.optimizers.Optimizer) -> keras.Model:
    """A network with four outputs for each task; the input `task` says which ones count."""
    image = keras.Input((PIXELS, PIXELS, 1), name="image")
    task = keras.Input((), dtype="int32", name="task")
    hidden = keras.layers.Conv2D(16, 3, activation="relu")(image)
    hidden = keras.layers.Conv2D(32, 3, strides=2, activation="relu")(hidden)
    hidden = keras.layers.Dense(64, activation="relu")(keras.layers.Flatten()(hidden))
    logits = keras.layers.Dense(len(SIZES) * CLASSES)(hidden)
    logits = keras.layers.Reshape((len(SIZES), CLASSES))(logits)
    chosen = keras.ops.one_hot(task, len(SIZES))[:, :, None]
    model = keras.Model({"image": image, "task": task}, keras.ops.sum(logits * chosen, axis=1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # `metrics` would count the empty rows at the end of a pass over the data.
    model.compile(optimizer, loss, weighted_metrics=["accuracy"])
    return model


def element(batch: dict) -> tuple:
    """Turns a batch into inputs, labels and weights (0 in empty rows)."""
    return {"image": batch["image"], "task": batch["task"]}, batch["label"], batch["weight"]


def train_separately(sources: list[ArraySource], tests: dict, updates: int) -> dict[str, float]:
    """Returns the accuracy of a model for each task, each trained with about `updates` updates."""
    baselines = {}
    for source in sources:
        uniform = schedules.create("uniform", [schedules.TaskInfo(source.name, source.size)])
        batches = Mixture([source], uniform, [Bucket(length=1, rows=ROWS)], seed=1)
        number = list(SIZES).index(source.name)

        def own(batch: dict, number: int = number) -> tuple:
            return element({**batch, "task": keras.ops.full_like(batch["task"], number)})

        model = make_model(Adam(0.002, beta_2=0.999))
        model.fit(batches.dataset(steps=max(2, updates), map_fn=own), verbose=0)
        inputs, labels = tests[source.name]
        scores = model.evaluate(inputs, labels, verbose=0, return_dict=True)
        baselines[source.name] = scores["accuracy"]
    return baselines


def main(argv: list[str] | None = None) -> dict[str, tuple[float, float]]:
    """Trains; returns the accuracy of each task with a separate and with the shared model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedule", default="inverse_ratio", choices=schedules.available())
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=50, help="batches per epoch")
    parser.add_argument("--directory", type=Path, required=True, help="directory of the run")
    options = parser.parse_args(argv)
    keras.utils.set_random_seed(1)

    sources, tests = [], {}
    for number, (name, size) in enumerate(SIZES.items()):
        images, labels = make_task(name, size, seed=number)
        sources.append(ArraySource(name, {"image": images, "label": labels}))
        images, labels = make_task(name, TEST_SIZE, seed=100 + number)
        tasks = np.full(TEST_SIZE, number, np.int32)
        tests[name] = ({"image": images, "task": tasks}, labels)

    file = options.directory / "baselines.json"
    if not file.exists():
        options.directory.mkdir(parents=True, exist_ok=True)
        updates = options.steps * options.epochs // len(SIZES)
        file.write_text(json.dumps(train_separately(sources, tests, updates)))
    baselines = json.loads(file.read_text())

    infos = [schedules.TaskInfo(s.name, s.size, baselines[s.name]) for s in sources]
    schedule = schedules.create(options.schedule, infos)
    if schedule.scaling:
        # The factors multiply learning rates; with scaled moments they act exactly.
        application = "learning_rate"
        optimizer = Adam(0.002, beta_2=0.999, num_tasks=len(SIZES), moments="scaled")
    else:
        application, optimizer = None, Adam(0.002, beta_2=0.999)
    bucket = Bucket(length=1, rows=ROWS)
    mixture = Mixture(sources, schedule, [bucket], seed=1, application=application)
    model = make_model(optimizer)
    with EventLog(options.directory, tensorboard=False) as log:
        scheduling = TaskScheduling(
            mixture,
            TaskEvaluation(tests, "accuracy"),
            baselines,
            state_path=options.directory / "tasks.npz",
            event_log=log,
        )
        backup = keras.callbacks.BackupAndRestore(
            options.directory / "backup", delete_checkpoint=False
        )
        model.fit(
            mixture.dataset(steps=options.steps, map_fn=element),
            epochs=options.epochs,
            callbacks=[scheduling, backup],
            verbose=0,
        )
    results = dict(zip(SIZES, scheduling.book.scores.tolist(), strict=True))
    print(f"{'task':10}{'separate':>10}{'together':>10}")
    for name, together in results.items():
        print(f"{name:10}{baselines[name]:10.3f}{together:10.3f}")
    return {name: (baselines[name], together) for name, together in results.items()}


if __name__ == "__main__":
    main()
