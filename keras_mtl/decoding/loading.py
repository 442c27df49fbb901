"""Loads a trained model from its directory."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from keras_mtl.configuration.files import load_params
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.data.vocabulary_files import read_vocabulary
from keras_mtl.decoding.checkpoint_files import chosen_checkpoints, find_checkpoints
from keras_mtl.decoding.model_kinds import ModelKind, model_kind, not_usable
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TaskList
from keras_mtl.errors import CheckpointError
from keras_mtl.messages import to_stderr
from keras_mtl.models.factory import build_model, check_sublayers
from keras_mtl.run_files import PARAMS_FILE, VOCABULARY_FILE

_VALUES = (ValueError, KeyError, IndexError)


class LoadedModel(NamedTuple):
    """A loaded model directory.

    Attributes:
        model: the model with its weights.
        vocabulary: its vocabulary.
        tasks: its tasks.
        options: the beam-search options of `task.decoding`.
        batch_size: `task.decoding.batch_size`.
        checkpoint: prefix of the checkpoint that was read.
    """

    model: Any
    vocabulary: Vocabulary
    tasks: TaskList
    options: BeamOptions
    batch_size: int
    checkpoint: str


def load_model(
    model_dir: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str] | None = None,
    log: Callable[[str], None] | None = None,
) -> LoadedModel:
    """Loads a model directory.

    The best checkpoint (in `best/`, with the weights that were validated) is preferred to the
    newest one. If a checkpoint is damaged, this is reported and the next one is read, unless the
    user chose it explicitly.

    Args:
        model_dir: directory with `params.yaml`, `vocabulary.model`, `tasks.json` and checkpoints.
        checkpoint: prefix of a checkpoint (`model_dir/ckpt-1000`) or a directory of checkpoints;
            None selects one as described above.
        log: function that receives lines for the user; default prints them on stderr.

    Raises:
        CheckpointError: a file is missing, damaged, or belongs to another model.
    """
    directory = Path(model_dir)
    if model_kind(directory) is not ModelKind.MODEL_DIR:
        raise CheckpointError(
            not_usable(directory, "a model directory written by `keras-mtl train`")
        )
    config = load_params(directory / PARAMS_FILE)
    vocabulary = read_vocabulary(directory)
    tasks = TaskList.read(directory)
    if tasks.vocabulary_hash != vocabulary.hash:
        raise CheckpointError(
            f"{directory / VOCABULARY_FILE} (hash {vocabulary.hash}) is not the vocabulary that "
            f"was used to train the model (hash {tasks.vocabulary_hash}). Restore the original file"
        )
    decoding = config.task.decoding
    options = BeamOptions.from_config(decoding)
    check_sublayers(config.task.model)
    model = build_model(
        config.task.model,
        vocabulary.size,
        tasks.decoders,
        tasks=tasks.tasks,
        source_vocabulary_size=vocabulary.source_size,
    )
    candidates = (
        find_checkpoints(directory) if checkpoint is None else chosen_checkpoints(checkpoint)
    )
    if not candidates:
        raise CheckpointError(
            f"{checkpoint or directory} contains no checkpoint (ckpt-*.index). Train the model "
            "first"
        )
    prefix = _restore(model, candidates, log or to_stderr)
    return LoadedModel(model, vocabulary, tasks, options, decoding.batch_size, prefix)


def _restore(model: Any, candidates: list[str], log: Callable[[str], None]) -> str:
    """Restores the first readable candidate and returns its prefix."""
    reason = ""
    for prefix in candidates:
        try:
            # The trainer's checkpoint also contains the optimizer and other objects.
            status = tf.train.Checkpoint(model=model).read(prefix)
            status.assert_existing_objects_matched().expect_partial()
            return prefix
        # For a truncated file, TensorFlow raises IndexError, RuntimeError or its own errors.
        except (tf.errors.OpError, AssertionError, OSError, RuntimeError, *_VALUES) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            if prefix != candidates[-1]:
                log(f"checkpoint {prefix} cannot be read ({reason}); trying the next one")
    raise CheckpointError(
        f"checkpoint {candidates[-1]} cannot be read ({reason}). It is damaged, or params.yaml, "
        "tasks.json or vocabulary.model in its directory belong to another model. Restore the "
        "original files"
    )
