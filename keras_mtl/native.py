"""The C++ core: loading it, checking that it belongs to this package, choosing an instruction set.

Nothing is loaded on import. The package works without the core where a TensorFlow implementation
exists; who needs the core calls :func:`core` and lets its message reach the user.
"""

import functools
import importlib
import json
import os
from pathlib import Path
from types import ModuleType

import keras_mtl
from keras_mtl import errors

ISAS = ("generic", "avx2", "vnni", "amx")
"""Instruction sets that kernels are written for, slowest first."""

_ISA_VARIABLE = "KERAS_MTL_ISA"
_REBUILD = "build it with `make` in a checkout, or install the package again with pip"


class NativeError(errors.KerasMtlError):
    """The C++ core is missing, of another version, or asked for what the processor lacks."""


@functools.cache
def core() -> ModuleType:
    """Loads the module ``keras_mtl._core``.

    Returns:
      The module; later calls return the same one.

    Raises:
      NativeError: it is not built, cannot be loaded, or was built for another version.
    """
    try:
        module = importlib.import_module("keras_mtl._core")
    except ModuleNotFoundError as error:
        raise NativeError(f"the C++ core keras_mtl._core is not built; {_REBUILD}") from error
    except ImportError as error:
        raise NativeError(
            f"the C++ core keras_mtl._core cannot be loaded ({error}); {_REBUILD}"
        ) from error
    check_version(module.version(), getattr(module, "__file__", "keras_mtl._core"))
    return module


def check_version(built_for: str, path: str) -> None:
    """Checks that the core was built from the sources of this package.

    Args:
      built_for: version that the core reports.
      path: file of the core, for the message.

    Raises:
      NativeError: the versions differ.
    """
    if built_for != keras_mtl.__version__:
        raise NativeError(
            f"{path}: the C++ core was built for keras_mtl {built_for}, this is "
            f"{keras_mtl.__version__}; {_REBUILD}"
        )


def is_available() -> bool:
    """Whether the core is built, loadable and of this version."""
    try:
        core()
    except NativeError:
        return False
    return True


@functools.cache
def load_ops() -> ModuleType:
    """Loads the TensorFlow operations of keras_mtl and imports TensorFlow.

    To be called before a SavedModel that holds them is loaded. They have kernels for CPUs alone and
    none for XLA, so a function that calls them must not be compiled (``jit_compile=False``).

    Returns:
      A module with a function for each operation: ``keras_mtl_quantized_mat_mul``,
      ``keras_mtl_beam_search``, ``keras_mtl_translate``, …

    Raises:
      NativeError: they are not built, or for another version of TensorFlow or keras_mtl.
    """
    library = _ops_library()
    import tensorflow as tf

    check_ops_version(library, tf.__version__)
    try:
        return tf.load_op_library(str(library))
    except tf.errors.OpError as error:
        raise NativeError(
            f"{library}: the TensorFlow operations cannot be loaded ({error.message}); {_REBUILD}"
        ) from error


def ops_are_available() -> bool:
    """Whether the TensorFlow operations are built and loadable; imports TensorFlow if they are."""
    try:
        load_ops()
    except NativeError:
        return False
    return True


def _ops_library() -> Path:
    # A package that is installed in place has its libraries in another folder than its sources.
    for folder in keras_mtl.__path__:
        library = Path(folder) / "_tf_ops.so"
        if library.is_file():
            return library
    raise NativeError(
        "the TensorFlow operations keras_mtl/_tf_ops.so are not built: TensorFlow was not there "
        "when keras_mtl was built. Everything else works without them; to have them, build "
        "keras_mtl where tensorflow is installed (`make` in a checkout, or `pip install "
        "--no-build-isolation`)"
    )


def check_ops_version(library: Path, tensorflow: str) -> None:
    """Checks what the TensorFlow operations were built for, without loading them.

    Args:
      library: file of the operations; ``_tf_ops.json`` beside it says what it was built for.
      tensorflow: version of the TensorFlow that shall load it.

    Raises:
      NativeError: the minor versions of TensorFlow, or the versions of keras_mtl, differ.
    """
    record = library.with_suffix(".json")
    try:
        built = json.loads(record.read_text(encoding="utf-8"))
        built_for, of_package = str(built["tensorflow"]), str(built["keras_mtl"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NativeError(f"{record} cannot be read ({error}); {_REBUILD}") from error
    if built_for.split(".")[:2] != tensorflow.split(".")[:2]:
        raise NativeError(
            f"{library}: the TensorFlow operations were built for TensorFlow {built_for} and this "
            f"is {tensorflow}; their binary interface changes with each minor version. Install "
            f"tensorflow {'.'.join(built_for.split('.')[:2])}, or build keras_mtl here: `make` in "
            "a checkout, or `pip install --no-build-isolation`"
        )
    check_version(of_package, str(library))


def cpu_features() -> dict[str, bool]:
    """What the processor has and the operating system allows, by name (``avx2``, ``amx_int8``...).

    Raises:
      NativeError: the core cannot be loaded.
    """
    return dict(core().cpu_features())


def isa() -> str:
    """The instruction set that kernels use: the fastest of this machine.

    The environment variable ``KERAS_MTL_ISA`` chooses a slower one, to compare or to reproduce.

    Returns:
      One of :data:`ISAS`.

    Raises:
      NativeError: the variable names no instruction set, or one that this machine lacks; or the
        core cannot be loaded.
    """
    return choose_isa(os.environ.get(_ISA_VARIABLE, ""), core().isa())


def choose_isa(requested: str, best: str) -> str:
    """Resolves a requested instruction set against what the machine has.

    Args:
      requested: one of :data:`ISAS`, or empty for the best.
      best: the fastest of :data:`ISAS` that this machine has.

    Returns:
      The instruction set to use.

    Raises:
      NativeError: ``requested`` is unknown or faster than ``best``.
    """
    if not requested:
        return best
    if requested not in ISAS:
        raise NativeError(
            f"{_ISA_VARIABLE}={requested!r} is not an instruction set"
            f"{errors.nearest(requested, ISAS)}"
        )
    usable = ISAS[: ISAS.index(best) + 1]
    if requested not in usable:
        raise NativeError(
            f"{_ISA_VARIABLE}={requested}: this machine cannot run it; it can run "
            f"{', '.join(usable)}"
        )
    return requested
