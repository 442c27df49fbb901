"""The formats without TensorFlow, of a model directory."""

import os
from pathlib import Path

from keras_mtl.decoding.loading import load_model
from keras_mtl.errors import ExportError, nearest
from keras_mtl.export import ctranslate2, engine_file

FORMATS = ("engine", "ctranslate2")


def export_weights(
    file_format: str,
    model_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    weight_type: str = "float32",
    overwrite: bool = False,
) -> Path:
    """Writes the weights of a model directory.

    Args:
        file_format: `engine` (see `engine_file.export_engine_file`; with the options of beam
            search that the directory has) or `ctranslate2` (see `ctranslate2.export_ctranslate2`).
        model_dir: directory that `keras-mtl train` has written.
        output: the file, or directory, to make.
        checkpoint: see `keras_mtl.decoding.loading.load_model`.
        weight_type: one of those of the format.
        overwrite: whether what has this name may be replaced.

    Returns:
        The file, or directory.

    Raises:
        CheckpointError: the model directory cannot be used.
        ExportError: the format or its weight type is unknown, something is in the way, or it cannot
            be written.
    """
    if file_format not in FORMATS:
        raise ExportError(f"format={file_format!r}{nearest(file_format, FORMATS)}")
    # Before the model is loaded, which takes its time.
    if file_format == "engine":
        engine_file.check_free_file(Path(output), overwrite)
    else:
        ctranslate2.check_output(Path(output), overwrite)
    loaded = load_model(model_dir, checkpoint)
    model = loaded.model, loaded.vocabulary, loaded.tasks.tasks
    if file_format == "engine":
        return engine_file.export_engine_file(
            *model, output, weight_type=weight_type, options=loaded.options, overwrite=overwrite
        )
    return ctranslate2.export_ctranslate2(
        *model, output, weight_type=weight_type, overwrite=overwrite
    )
