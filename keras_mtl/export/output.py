"""What an exported model may replace. Needs no TensorFlow."""

from pathlib import Path

from keras_mtl.errors import ExportError


def check_free(path: Path, overwrite: bool) -> None:
    """Refuses what must not be replaced: anything, or with `overwrite` all but a SavedModel."""
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise ExportError(f"{path} exists; give --overwrite to replace it, or another output")
    if not (path / "saved_model.pb").is_file():
        raise ExportError(
            f"{path} exists and is not an exported model, so --overwrite does not replace it; give "
            "another output"
        )
