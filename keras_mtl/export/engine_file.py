"""Export of the engine file: weights, vocabulary and tasks of a model, for the C++ engine."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.engine_file import WEIGHT_TYPES, write_engine_file
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.engine import is_model_file
from keras_mtl.errors import ExportError

__all__ = ["WEIGHT_TYPES", "check_free_file", "export_engine_file"]


def export_engine_file(
    model: Any,
    vocabulary: Vocabulary,
    tasks: Sequence[TranslationTask],
    output: str | os.PathLike[str],
    *,
    weight_type: str = "float32",
    options: BeamOptions | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes the engine file of a model in memory.

    Args:
        model: a built `keras_mtl.models.Transformer`.
        vocabulary: the vocabulary of the model.
        tasks: the tasks of the model.
        output: the file to write.
        weight_type: one of `WEIGHT_TYPES`; see `keras_mtl.decoding.engine_file.write_engine_file`.
        options: beam search options of a translator that is opened without options.
        overwrite: whether to replace an existing engine file.

    Returns:
        The file.

    Raises:
        ExportError: an argument is invalid, a weight is not finite, or the file exists or cannot be
            written.
    """
    check_free_file(Path(output), overwrite)
    return write_engine_file(
        model, vocabulary, tasks, output, weight_type=weight_type, options=options
    )


def check_free_file(path: Path, overwrite: bool) -> None:
    """Checks that the output may be written.

    Raises:
        ExportError: it exists and must not be replaced.
    """
    if path.is_dir():
        raise ExportError(f"{path} is a directory. Give the name of a file")
    if not path.exists():
        return
    if not overwrite:
        raise ExportError(f"{path} exists. Give --overwrite to replace it, or another output")
    if not os.access(path, os.R_OK):
        raise ExportError(
            f"{path} exists and cannot be read, so --overwrite does not replace it. Give another "
            "output"
        )
    if not is_model_file(path):
        raise ExportError(
            f"{path} exists and is not an engine file, so --overwrite does not replace it. Give "
            "another output"
        )
