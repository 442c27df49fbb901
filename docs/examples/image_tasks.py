"""Three image classification tasks of unequal size in one Keras model, trained by ``model.fit``.

    python docs/examples/image_tasks.py --schedule inverse_ratio --directory /somewhere/run

The images are made here: stripes in four directions (4,000 of them), one to four dots (600), a
bright corner (150). The tasks share a small convolutional network; each has its own four outputs.
First every task is trained alone, which gives the baselines; then all together under a schedule.
Started again with the same directory, training resumes where it was stopped.
"""

import argparse
import json
import math
from pathlib import Path

import keras
import numpy as np

from keras_mtl import ArraySource, Bucket, Mixture, TaskEvaluation, TaskScheduling, schedules
from keras_mtl.training.run.event_log import EventLog
from keras_mtl.training.step.optimizers import Adam

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
    """A network with four outputs for each task; the input ``task`` says which ones count."""
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
    # Not `metrics`: those would count the empty rows at the end of a pass over the data.
    model.compile(optimizer, loss, weighted_metrics=["accuracy"])
    return model


def element(batch: dict) -> tuple:
    """What the model takes of a batch: inputs, labels, weights (0 in empty rows)."""
    return {"image": batch["image"], "task": batch["task"]}, batch["label"], batch["weight"]


def train_alone(sources: list[ArraySource], tests: dict, updates: int) -> dict[str, float]:
    """Accuracy that each task reaches alone, by about so many updates."""
    baselines = {}
    for source in sources:
        alone = schedules.create("uniform", [schedules.TaskInfo(source.name, source.size)])
        batches = Mixture([source], alone, [Bucket(length=1, rows=ROWS)], seed=1)
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
    """Trains; returns (accuracy alone, accuracy together) of each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedule", default="inverse_ratio", choices=schedules.available())
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=50, help="batches of an epoch")
    parser.add_argument("--directory", type=Path, required=True, help="where the run is kept")
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
        file.write_text(json.dumps(train_alone(sources, tests, updates)))
    baselines = json.loads(file.read_text())

    infos = [schedules.TaskInfo(s.name, s.size, baselines[s.name]) for s in sources]
    schedule = schedules.create(options.schedule, infos)
    if schedule.scaling:
        # Factors on learning rates: every task has its own moments.
        application = "learning_rate"
        optimizer = Adam(0.002, beta_2=0.999, num_tasks=len(SIZES), moments="per_task")
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
    print(f"{'task':10}{'alone':>8}{'together':>10}")
    for name, together in results.items():
        print(f"{name:10}{baselines[name]:8.3f}{together:10.3f}")
    return {name: (baselines[name], together) for name, together in results.items()}


if __name__ == "__main__":
    main()
