"""Averages the weights of several checkpoints of a run."""

import os
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_mtl.configuration.files import load_params, save_params
from keras_mtl.configuration.keeping import MACRO, WORST
from keras_mtl.data.vocabulary_files import read_vocabulary, write_vocabulary
from keras_mtl.decoding.checkpoint_files import BEST, best_first, newest_first
from keras_mtl.decoding.loading import load_model
from keras_mtl.errors import CheckpointError, nearest
from keras_mtl.files import replacing_directory
from keras_mtl.models.quantizers import quantizers
from keras_mtl.remote_files import is_remote
from keras_mtl.run_files import PARAMS_FILE, TASKS_FILE, data_directory
from keras_mtl.training.run.checkpoints import write_checkpoint


def checkpoints_to_average(
    model_dir: str | os.PathLike[str], last: int | None, best: int | None, score: str = MACRO
) -> list[str]:
    """Returns the prefixes of the checkpoints to average.

    Args:
        model_dir: directory of the run.
        last: number of newest checkpoints; None if `best` is given.
        best: number of best checkpoints.
        score: what the best ones are best by: `macro`, `worst` or a task.

    Raises:
        CheckpointError: the run has too few of them.
    """
    directory = Path(model_dir)
    if last is not None:
        found, count, field = newest_first(directory), last, "trainer.max_to_keep"
        kind, place = "checkpoints", directory
    else:
        assert best is not None  # The caller gives one of them.
        of_tasks = directory / BEST / "tasks"
        place = directory / BEST / score if score in (MACRO, WORST) else of_tasks / score
        found, count, kind = best_first(place), best, "best checkpoints"
        field = f"trainer.best.{score if score in (MACRO, WORST) else 'tasks'}"
        known = [path.name for path in of_tasks.glob("*")]
        if place.parent == of_tasks and known and score not in known:
            raise CheckpointError(
                f"{of_tasks} has no best checkpoints of the task {score!r}{nearest(score, known)}"
            )
        if score == MACRO and not found:  # There is no list of one.
            place = directory / BEST
            found = newest_first(place)[:1]  # Another one is that of the newest checkpoint.
    if len(found) < count:
        raise CheckpointError(
            f"{place} has {len(found)} {kind}, not {count}. Average fewer, or train with "
            f"{field} >= {count}"
        )
    return found[:count]


def average_checkpoints(
    model_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    last: int | None = None,
    best: int | None = None,
    score: str = MACRO,
) -> list[str]:
    """Writes a model directory whose weights are the mean of several checkpoints.

    Args:
        model_dir: directory of the run.
        output: directory to create; it can be translated with, evaluated and exported.
        last: number of newest checkpoints, >= 1; None if `best` is given.
        best: number of best checkpoints, >= 1.
        score: what the best ones are best by: `macro`, `worst` or a task.

    Returns:
        The prefixes of the checkpoints that were averaged.

    Raises:
        CheckpointError: the run has too few checkpoints, one is damaged, or the output exists or
            cannot be written.
    """
    output = Path(output)
    if output.exists():
        raise CheckpointError(f"{output} exists. Give another output")
    prefixes = checkpoints_to_average(model_dir, last, best, score)
    model = None
    sums: list[np.ndarray] = []
    states: list[list[np.ndarray]] = []  # of the quantizers, by checkpoint
    for prefix in sorted(prefixes, key=_step, reverse=True):
        if model is None:
            model = load_model(model_dir, prefix).model
            sums = [np.zeros(weight.shape, np.float64) for weight in model.trainable_variables]
        else:
            _read(model, prefix)
        for total, weight in zip(sums, model.trainable_variables, strict=True):
            total += weight.numpy()
        states.append([each.state.numpy() for each in quantizers(model)])
    assert model is not None  # At least one checkpoint is averaged.
    for total, weight in zip(sums, model.trainable_variables, strict=True):
        weight.assign((total / len(prefixes)).astype(np.float32))
    for quantizer, *of_one in zip(quantizers(model), *states, strict=True):
        quantizer.state.assign(quantizer.mean_state(of_one))
    try:
        with replacing_directory(output) as partial:
            write_vocabulary(partial, read_vocabulary(model_dir))
            shutil.copyfile(Path(model_dir) / TASKS_FILE, partial / TASKS_FILE)
            config = load_params(Path(model_dir) / PARAMS_FILE)
            # Evaluation reads the prepared data of the run.
            data = data_directory(config.task.data.data_dir, model_dir)
            config.task.data.data_dir = data if is_remote(data) else os.path.abspath(data)
            save_params(config, partial / PARAMS_FILE)
            newest = max(map(_step, prefixes))
            write_checkpoint(tf.train.Checkpoint(model=model), partial / BEST / f"ckpt-{newest}")
    except OSError as error:
        raise CheckpointError(f"{output} cannot be written: {error.strerror}") from error
    return prefixes


def _step(prefix: str) -> int:
    return int(prefix.rpartition("-")[2])


def _read(model: tf.Module, prefix: str) -> None:
    try:
        status = tf.train.Checkpoint(model=model).read(prefix)
        status.assert_existing_objects_matched().expect_partial()
    except Exception as error:  # TensorFlow's reader raises IndexError, RuntimeError, ...
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(f"checkpoint {prefix} cannot be read ({reason})") from error
