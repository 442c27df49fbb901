"""Trained models from which a new run takes its first weights."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mtl.configuration.files import load_params
from keras_mtl.configuration.initial_weights import InitConfig
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.checkpoint_files import chosen_checkpoints, newest_first
from keras_mtl.decoding.model_kinds import ModelKind, model_kind, not_usable
from keras_mtl.errors import CheckpointError, ConfigError, KerasMtlError
from keras_mtl.remote_files import is_remote

_WANTED = "a model directory, a checkpoint in one, or an engine file"
# `best/tasks/<task>/ckpt-<step>` is inside a model directory.
_DEPTH = 4


@dataclasses.dataclass(frozen=True)
class WeightSource:
    """The weights of a trained model.

    Attributes:
        kind: what the source is, in words.
        checkpoint: prefix of the checkpoint that was read, or the engine file.
        vocabulary: its vocabulary.
        arrays: float32 weights by name of the variable.
        moments: by slot of the optimizer (`momentum`, `velocity`) arrays by name of the variable;
            empty unless they are wanted.
        digest: hash of the weights, 16 hexadecimal digits.
    """

    kind: str
    checkpoint: str
    vocabulary: Vocabulary
    arrays: Mapping[str, np.ndarray]
    moments: Mapping[str, Mapping[str, np.ndarray]]
    digest: str

    def record(self) -> dict[str, Any]:
        """Returns what identifies the source, for a file."""
        return {
            "kind": self.kind,
            "checkpoint": self.checkpoint,
            "vocabulary_hash": self.vocabulary.hash,
            "weights_hash": self.digest,
        }

    def describe(self) -> str:
        """Returns a line about the source."""
        return (
            f"{self.checkpoint}, {self.kind}, {self.vocabulary.describe()}, weights {self.digest}"
        )


def check_sources(sources: Sequence[InitConfig]) -> None:
    """Checks that every source exists and is a model. Does not import TensorFlow.

    Raises:
        ConfigError: a source is missing, of another kind, or has no moments though they are wanted.
    """
    for number, settings in enumerate(sources):
        _locate(settings, f"task.model.init[{number}]")


def open_source(
    settings: InitConfig, number: int, log: Callable[[str], None] | None = None
) -> WeightSource:
    """Reads the weights of a source.

    Args:
        settings: the source.
        number: its number in `task.model.init`, from 0.
        log: function that receives a line if a checkpoint is damaged and another one is read; None
            prints it on standard error.

    Raises:
        ConfigError: the source is missing, damaged or of another kind.
    """
    field = f"task.model.init[{number}]"
    model_dir, checkpoint = _locate(settings, field)
    try:
        if model_dir is None:
            return _open_engine_file(checkpoint)
        return _open_checkpoint(model_dir, checkpoint, settings.moments, log)
    except KerasMtlError as error:
        raise ConfigError(f"{field}.from: {error}") from error


def _locate(settings: InitConfig, field: str) -> tuple[Path | None, str | None]:
    """Returns the model directory and the chosen checkpoint, or None and the engine file.

    The checkpoint is None if the best or newest one is to be read.
    """
    path = Path(settings.from_)
    kind = ModelKind.MISSING if is_remote(settings.from_) else model_kind(path)
    if kind is ModelKind.ENGINE_FILE:
        if settings.moments:
            raise ConfigError(
                f"{field}.moments = true, but {path} is an engine file, which has no moments. Give "
                "a checkpoint of a run, or set moments to false"
            )
        return None, str(path)
    if kind is ModelKind.MODEL_DIR:
        return path, _newest(path, field) if settings.moments else None
    if kind in (ModelKind.CHECKPOINT, ModelKind.CHECKPOINTS):
        for parent in [*path.absolute().parents][:_DEPTH]:
            if model_kind(parent) is ModelKind.MODEL_DIR:
                return parent, str(path)
        raise ConfigError(
            f"{field}.from = {settings.from_!r} is {kind.value}, but no directory above it has "
            "params.yaml, tasks.json and vocabulary.model, which say what the weights mean. Give "
            f"{_WANTED}"
        )
    raise ConfigError(f"{field}.from: {not_usable(settings.from_, _WANTED)}")


def _newest(model_dir: Path, field: str) -> str:
    """Returns the newest checkpoint of a run; the best one has no moments."""
    found = newest_first(model_dir)
    if not found:
        raise ConfigError(
            f"{field}.moments = true, but {model_dir} has no checkpoint of a run, only weights. "
            "Set moments to false"
        )
    return found[0]


def _open_engine_file(path: str | None) -> WeightSource:
    from keras_mtl.decoding.engine_file import TextSide
    from keras_mtl.engine import open_model_file
    from keras_mtl.engine.arrays import variable_arrays

    assert path is not None
    file = open_model_file(path, verify=True)
    file.check_transformer()
    arrays = variable_arrays(file)
    kind = f"an engine file of {file.hyperparameters['weight_type']}"
    return _source(kind, path, TextSide.read(file).vocabulary, arrays, {})


def _open_checkpoint(
    model_dir: Path, checkpoint: str | None, moments: bool, log: Callable[[str], None] | None
) -> WeightSource:
    # TensorFlow is imported here, because `inspect` checks sources without it.
    import tensorflow as tf

    from keras_mtl.decoding.loading import load_model
    from keras_mtl.models.variables import freeze, variable_name, variables_by_name

    if checkpoint is not None and not chosen_checkpoints(checkpoint):
        raise CheckpointError(f"{checkpoint} contains no checkpoint (ckpt-*.index)")
    with tf.device("CPU"):
        loaded = load_model(model_dir, checkpoint, log)
    arrays = {name: each.numpy() for name, each in variables_by_name(loaded.model).items()}
    found: dict[str, dict[str, np.ndarray]] = {}
    if moments:
        from keras_mtl.training.step.moments import saved_moments

        freeze(loaded.model, load_params(model_dir).trainer.freeze)
        names = [variable_name(each) for each in loaded.model.trainable_variables]
        for slot, values in saved_moments(loaded.checkpoint, len(names)).items():
            found[slot] = dict(zip(names, values, strict=True))
    kind = ModelKind.CHECKPOINT.value
    return _source(kind, loaded.checkpoint, loaded.vocabulary, arrays, found)


def _source(
    kind: str,
    checkpoint: str,
    vocabulary: Vocabulary,
    arrays: dict[str, np.ndarray],
    moments: dict[str, dict[str, np.ndarray]],
) -> WeightSource:
    from keras_mtl.evaluation.records import weights_hash

    return WeightSource(
        kind, checkpoint, vocabulary, arrays, moments, weights_hash(arrays.values())
    )
