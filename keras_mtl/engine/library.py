"""The C++ core: loading it, its version, and the instruction set that its kernels use.

Importing this module loads nothing. The package also works without the core if a TensorFlow
implementation exists; code that needs the core calls `core` and lets its error reach the user.
"""

import functools
import importlib
import os
from types import ModuleType

import keras_mtl
from keras_mtl import errors

ISAS = ("generic", "avx2", "vnni", "amx")
"""Instruction sets that kernels are written for, slowest first."""

ISA_VARIABLE = "KERAS_MTL_ISA"
"""Environment variable that chooses a slower instruction set than the fastest."""

REBUILD = "build it with `make` in a checkout, or install the package again with pip"


class NativeError(errors.KerasMtlError):
    """The C++ core is missing, of another version, or asked for what the processor lacks."""


@functools.cache
def core() -> ModuleType:
    """Loads the module `keras_mtl._core`.

    Returns:
        The module; later calls return the same one.

    Raises:
        NativeError: it is not built, cannot be loaded, or was built for another version.
    """
    try:
        module = importlib.import_module("keras_mtl._core")
    except ModuleNotFoundError as error:
        raise NativeError(f"the C++ core keras_mtl._core is not built; {REBUILD}") from error
    except ImportError as error:
        raise NativeError(
            f"the C++ core keras_mtl._core cannot be loaded ({error}); {REBUILD}"
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
            f"{keras_mtl.__version__}; {REBUILD}"
        )


def is_available() -> bool:
    """Whether the core is built, loadable and of this version."""
    try:
        core()
    except NativeError:
        return False
    return True


def cpu_features() -> dict[str, bool]:
    """What the processor has and the operating system allows, by name (`avx2`, `amx_int8`...).

    Raises:
        NativeError: the core cannot be loaded.
    """
    return dict(core().cpu_features())


def isa() -> str:
    """The instruction set that kernels use: the fastest of this machine.

    The environment variable `KERAS_MTL_ISA` chooses a slower one, to compare or to reproduce.

    Returns:
        One of :data:`ISAS`.

    Raises:
        NativeError: the variable names no instruction set, or one that this machine lacks; or the
            core cannot be loaded.
    """
    return choose_isa(os.environ.get(ISA_VARIABLE, ""), core().isa())


def choose_isa(requested: str, best: str, name: str = ISA_VARIABLE) -> str:
    """Resolves a requested instruction set against what the machine has.

    Args:
        requested: one of :data:`ISAS`, or empty for the best.
        best: the fastest of :data:`ISAS` that this machine has.
        name: where it was requested, for the message.

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
            f"{name}={requested}: this machine cannot run it; it can run {', '.join(usable)}"
        )
    return requested
