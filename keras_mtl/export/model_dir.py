"""Export of a model directory to the formats that do not require TensorFlow."""

import os
from pathlib import Path

from keras_mtl.decoding.adapter_file import write_adapter_file
from keras_mtl.decoding.loading import load_model
from keras_mtl.errors import ExportError, nearest
from keras_mtl.export import ctranslate2, engine_file

FORMATS = ("engine", "adapters", "ctranslate2")


def export_weights(
    file_format: str,
    model_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    weight_type: str = "float32",
    overwrite: bool = False,
    base: str | os.PathLike[str] | None = None,
) -> Path:
    """Writes the weights of a model directory.

    Args:
        file_format: `engine` (see `engine_file.export_engine_file`; with the beam search options of
            the directory), `adapters` (see `keras_mtl.decoding.adapter_file.write_adapter_file`)
            or `ctranslate2` (see `ctranslate2.export_ctranslate2`).
        model_dir: a directory written by `keras-mtl train`.
        output: the file or directory to create.
        checkpoint: see `keras_mtl.decoding.loading.load_model`.
        weight_type: a weight type of the format.
        overwrite: whether to replace an existing model of the same format.
        base: for `adapters`, the engine file to which they can be added.

    Returns:
        The file or directory.

    Raises:
        CheckpointError: the model directory cannot be used.
        ExportError: the format or the weight type is unknown, or the output exists or cannot be
            written.
    """
    if file_format not in FORMATS:
        raise ExportError(f"format={file_format!r}{nearest(file_format, FORMATS)}")
    # Before the model is loaded, which is slow.
    if file_format == "adapters" and base is None:
        raise ExportError("format='adapters' needs base. Give the engine file without the adapters")
    if file_format != "ctranslate2":
        engine_file.check_free_file(Path(output), overwrite)
    else:
        ctranslate2.check_output(Path(output), overwrite)
    loaded = load_model(model_dir, checkpoint)
    model = loaded.model, loaded.vocabulary, loaded.tasks.exported()
    if file_format == "engine":
        return engine_file.export_engine_file(
            *model, output, weight_type=weight_type, options=loaded.options, overwrite=overwrite
        )
    if base is not None:
        return write_adapter_file(*model, base, output)
    return ctranslate2.export_ctranslate2(
        *model, output, weight_type=weight_type, overwrite=overwrite
    )
