"""What exports may replace, and types of weights. Does not require TensorFlow."""

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


def check_weight_type(only_tensorflow: str, weight_type: str) -> None:
    """Checks the type of the weights of a model that only TensorFlow runs.

    Args:
        only_tensorflow: the reason, from `keras_mtl.configuration.sublayers.only_tensorflow`; empty
            if the engine runs the model.
        weight_type: the type.

    Raises:
        ExportError: TensorFlow would not run the model with this type.
    """
    if only_tensorflow and weight_type != "float32":
        raise ExportError(
            f"--weight_type={weight_type}: {only_tensorflow}, with float32 weights. Omit it"
        )
