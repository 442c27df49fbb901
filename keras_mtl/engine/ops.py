"""The TensorFlow operations of keras_mtl: finding, checking and loading their library.

Importing this module does not import TensorFlow; `load_ops` does.
"""

import functools
import json
from pathlib import Path
from types import ModuleType

import keras_mtl
from keras_mtl.engine.library import REBUILD, NativeError, check_version


@functools.cache
def load_ops() -> ModuleType:
    """Imports TensorFlow and loads the TensorFlow operations of keras_mtl.

    Call it before you load a SavedModel that contains these operations. They have kernels only for
    CPUs and do not support XLA, so a function that calls them must not be compiled
    (`jit_compile=False`).

    Returns:
        A module with a function for each operation: `keras_mtl_quantized_mat_mul`,
        `keras_mtl_beam_search`, `keras_mtl_translate`, …

    Raises:
        NativeError: the operations are not built, or were built for another version of TensorFlow
            or keras_mtl.

    Example:
        ```python
        import tensorflow as tf
        import keras_mtl

        ops = keras_mtl.load_ops()
        weights = tf.constant([[1, -2], [3, 4]], tf.int8)
        ops.keras_mtl_quantized_mat_mul(x=[[1.0, 0.5]], weights=weights, scales=[0.1, 0.1])
        ```
    """
    library = _ops_library()
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        raise NativeError(
            f"{library}: the TensorFlow operations require the package {error.name}, which is not "
            "installed. Install it, or translate with `keras_mtl.Engine`, which does not require it"
        ) from error

    check_ops_version(library, tf.__version__)
    try:
        return tf.load_op_library(str(library))
    except tf.errors.OpError as error:
        raise NativeError(
            f"{library}: the TensorFlow operations cannot be loaded ({error.message}). {REBUILD}"
        ) from error


def ops_are_available() -> bool:
    """Whether the TensorFlow operations can be loaded. Imports TensorFlow if they are built."""
    try:
        load_ops()
    except NativeError:
        return False
    return True


def _ops_library() -> Path:
    # An editable installation has its libraries in another directory than its sources.
    for directory in keras_mtl.__path__:
        library = Path(directory) / "_tf_ops.so"
        if library.is_file():
            return library
    raise NativeError(
        "the TensorFlow operations keras_mtl/_tf_ops.so are not built: TensorFlow was not "
        "installed when keras_mtl was built. Everything else works without them. To build them, "
        "install tensorflow first, then keras_mtl (`make` in a checkout, or `pip install "
        "--no-build-isolation`)"
    )


def check_ops_version(library: Path, tensorflow: str) -> None:
    """Checks the versions for which the TensorFlow operations were built, without loading them.

    Args:
        library: the file of the operations; `_tf_ops.json` next to it contains the versions.
        tensorflow: the version of the TensorFlow that will load it.

    Raises:
        NativeError: the minor versions of TensorFlow or the versions of keras_mtl differ.
    """
    record = library.with_suffix(".json")
    try:
        built = json.loads(record.read_text(encoding="utf-8"))
        built_for, of_package = str(built["tensorflow"]), str(built["keras_mtl"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NativeError(f"{record} cannot be read ({error}). {REBUILD}") from error
    if built_for.split(".")[:2] != tensorflow.split(".")[:2]:
        raise NativeError(
            f"{library}: the TensorFlow operations were built for TensorFlow {built_for}, but this "
            f"is {tensorflow}. The binary interface changes with each minor version. Install "
            f"tensorflow {'.'.join(built_for.split('.')[:2])}, or build keras_mtl again: `make` in "
            "a checkout, or `pip install --no-build-isolation`"
        )
    check_version(of_package, str(library))
