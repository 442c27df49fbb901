"""The C++ core: loading, version, and the instruction set of its kernels.

Importing this module does not load the core. The package works without the core for whatever
TensorFlow can do; code that requires the core calls `core` and does not catch its error.
"""

import functools
import importlib
import os
from types import ModuleType

import keras_mtl
from keras_mtl import errors

ISAS = ("generic", "avx2", "vnni", "amx")
"""The instruction sets for which there are kernels, slowest first."""

ISA_VARIABLE = "KERAS_MTL_ISA"
"""The environment variable that chooses another instruction set than the fastest."""

REBUILD = "Build it with `make` in a checkout, or reinstall the package with pip"


class NativeError(errors.KerasMtlError):
    """The C++ core is missing, has another version, or does not fit the processor."""


@functools.cache
def core() -> ModuleType:
    """Loads the module `keras_mtl._core`.

    Returns:
        The module; always the same one.

    Raises:
        NativeError: the core is not built, cannot be loaded, or was built for another version.
    """
    try:
        module = importlib.import_module("keras_mtl._core")
    except ModuleNotFoundError as error:
        raise NativeError(f"the C++ core keras_mtl._core is not built. {REBUILD}") from error
    except ImportError as error:
        raise NativeError(
            f"the C++ core keras_mtl._core cannot be loaded ({error}). {REBUILD}"
        ) from error
    check_version(module.version(), getattr(module, "__file__", "keras_mtl._core"))
    return module


def check_version(built_for: str, path: str) -> None:
    """Checks that the core was built from the sources of this package.

    Args:
        built_for: the version that the core reports.
        path: the file of the core, for the message.

    Raises:
        NativeError: the versions differ.
    """
    if built_for != keras_mtl.__version__:
        raise NativeError(
            f"{path}: the C++ core was built for keras_mtl {built_for}, but this is "
            f"{keras_mtl.__version__}. {REBUILD}"
        )


def is_available() -> bool:
    """Whether the core is built, can be loaded, and has the version of this package."""
    try:
        core()
    except NativeError:
        return False
    return True


def cpu_features() -> dict[str, bool]:
    """Returns which features the processor has and the operating system allows, by name.

    Names are, for example, `avx2` and `amx_int8`.

    Raises:
        NativeError: the core cannot be loaded.
    """
    return dict(core().cpu_features())


def isa() -> str:
    """Returns the instruction set that the kernels use: the fastest of this machine.

    The environment variable `KERAS_MTL_ISA` chooses a slower one, to compare speeds or to reproduce
    a result of another machine.

    Returns:
        One of `ISAS`.

    Raises:
        NativeError: the variable does not name an instruction set of this machine, or the core
            cannot be loaded.
    """
    return choose_isa(os.environ.get(ISA_VARIABLE, ""), core().isa())


def choose_isa(requested: str, best: str, name: str = ISA_VARIABLE) -> str:
    """Checks a requested instruction set against those of the machine.

    Args:
        requested: one of `ISAS`, or empty for the best.
        best: the fastest of `ISAS` on this machine.
        name: the argument or variable that requests it, for the message.

    Returns:
        The instruction set to use.

    Raises:
        NativeError: `requested` is unknown or faster than `best`.
    """
    if not requested:
        return best
    if requested not in ISAS:
        raise NativeError(
            f"{name}={requested!r} is not an instruction set{errors.nearest(requested, ISAS)}"
        )
    usable = ISAS[: ISAS.index(best) + 1]
    if requested not in usable:
        raise NativeError(
            f"{name}={requested}: this machine lacks this instruction set. Choose one of "
            f"{', '.join(usable)}"
        )
    return requested
