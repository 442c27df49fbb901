"""What an exported model may replace. Does not require TensorFlow."""

from pathlib import Path

from keras_mtl.errors import ExportError


def check_free(path: Path, overwrite: bool) -> None:
    """Checks that the output may be written.

    Raises:
        ExportError: it exists, and `overwrite` is False or it is not a SavedModel.
    """
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise ExportError(f"{path} exists. Give --overwrite to replace it, or another output")
    if not (path / "saved_model.pb").is_file():
        raise ExportError(
            f"{path} exists and is not an exported model, so --overwrite does not replace it. Give "
            "another output"
        )
