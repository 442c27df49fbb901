"""Plug-ins: users' modules that register readers, schedules, metrics and more when imported.

A plug-in is named by `--import`, by `imports` of a configuration (so that a run directory records
it), or by an entry point of an installed package in the group `keras_mtl.plugins`. Importing a
module runs its code, so load only configurations that you trust.
"""

import functools
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from keras_mtl import errors
from keras_mtl.run_files import PARAMS_FILE

GROUP = "keras_mtl.plugins"
"""The group of entry points of installed packages."""

FIELD = "imports"
"""The field of a configuration that names plug-ins."""

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # The package.


@functools.cache
def load_entry_points() -> None:
    """Imports the plug-ins of all installed packages, once in a process.

    Raises:
        ConfigError: one of them cannot be imported.
    """
    # This import would double the time of `keras-mtl --help`, which does not need it.
    import importlib.metadata

    for entry in importlib.metadata.entry_points(group=GROUP):
        package = entry.dist.name if entry.dist is not None else "?"
        try:
            entry.load()
        except BaseException as error:
            _reraise(error)
            raise failure(
                f"plug-in {entry.value!r} of the installed package {package!r} cannot be imported",
                error,
                f"repair or uninstall the package {package!r}",
            ) from error


def load(names: Iterable[str], directory: str | None = None, origin: str = "--import") -> list[str]:
    """Imports plug-ins.

    Args:
        names: modules, such as `my_package.schedules`. Put a directory in front, as in
            `plugins/my_schedules`, if the module is not on Python's path.
        directory: the directory that such names are relative to, and that is searched for modules
            that are not on Python's path: that of the configuration file. None means the working
            directory.
        origin: where the names were given, for messages.

    Returns:
        Names by which a process in any working directory finds the plug-ins.

    Raises:
        ConfigError: a name is not a module name, or a plug-in cannot be found or imported.
    """
    return [_load(name, directory or os.getcwd(), origin) for name in names]


def load_named(names: Any, directory: str | None, origin: str) -> list[str]:
    """Imports the plug-ins in `imports` of a configuration.

    Args:
        names: value of `imports`. If it is not a list of texts, nothing is imported: reading the
            configuration reports that.
        directory: as of `load`.
        origin: as of `load`.

    Returns:
        As for `load`.

    Raises:
        ConfigError: a plug-in cannot be found or imported.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return []
    return load(names, directory, origin)


def load_saved(model_dir: str | os.PathLike[str]) -> list[str]:
    """Imports the plug-ins that a run directory records; imports no TensorFlow itself.

    Imports nothing if `params.yaml` is missing or damaged: the code that reads it as a
    configuration reports that.

    Raises:
        ConfigError: a plug-in cannot be found or imported.
    """
    path = os.path.join(model_dir, PARAMS_FILE)
    if not os.path.isfile(path):
        return []
    # An environment that has only the engine lacks the package yaml.
    from keras_mtl.configuration import reading

    values = reading.read_values(path)
    names = values.get(FIELD) if isinstance(values, dict) else None
    return load_named(names, os.path.abspath(model_dir), f"{FIELD} of {path}")


def _load(name: str, directory: str, origin: str) -> str:
    place, _, module = name.removesuffix(".py").rpartition("/")
    if not all(part.isidentifier() for part in module.split(".")):
        raise errors.ConfigError(
            f"{origin}: {name!r} is not the name of a module; write it as my_package.my_module, "
            "with its directory in front if Python does not find it: plugins/my_module"
        )
    top = module.split(".")[0]
    searched = [os.path.normpath(os.path.join(directory, place or "."))]
    if not place:
        searched.append(os.getcwd())
    if place or not _is_known(top):
        holder = next((each for each in searched if _holds(each, top)), None)
        if holder is None:
            raise _not_found(module, searched, place, origin)
        if holder not in sys.path:
            # At the end, so that the user's files cannot hide other modules.
            sys.path.append(holder)
            importlib.invalidate_caches()
    try:
        importlib.import_module(module)
    except BaseException as error:
        _reraise(error)
        if isinstance(error, ModuleNotFoundError) and _is_part(error.name, module):
            raise _not_found(module, searched, place, origin) from error
        raise failure(
            f"plug-in {module!r} ({origin}) cannot be imported",
            error,
            "repair the module, or leave it out",
        ) from error
    found = _location(sys.modules[top])
    if place and found is not None and not _same(found, searched[0]):
        raise errors.ConfigError(
            f"plug-in {module!r} ({origin}) should come from {searched[0]}, but Python already has "
            f"a module {top!r} in {found}; rename your module"
        )
    if found is not None and any(_same(found, each) for each in searched):
        return f"{found}/{module}"
    return module


def _is_known(top: str) -> bool:
    try:
        return top in sys.modules or importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _holds(directory: str, top: str) -> bool:
    path = os.path.join(directory, top)
    return os.path.isfile(f"{path}.py") or os.path.isdir(path)


def _location(module: ModuleType) -> str | None:
    """Returns the directory that holds a top-level module; None for a built-in one."""
    if getattr(module, "__path__", None):
        return os.path.dirname(os.path.abspath(next(iter(module.__path__))))
    file = getattr(module, "__file__", None)
    return None if file is None else os.path.dirname(os.path.abspath(file))


def _same(left: str, right: str) -> bool:
    return os.path.realpath(left) == os.path.realpath(right)


def _is_part(name: str | None, module: str) -> bool:
    """Whether a missing module is the plug-in itself or a package that it is in."""
    return name is not None and f"{module}.".startswith(f"{name}.")


def _not_found(module: str, searched: list[str], place: str, origin: str) -> errors.ConfigError:
    looked = " or ".join(dict.fromkeys(searched))
    where = looked if place else f"Python's path or {looked}"
    return errors.ConfigError(
        f"plug-in {module!r} ({origin}): there is no such module in {where}; check the name, "
        f"install its package, or put its directory in front, as in path/to/directory/{module}"
    )


def _reraise(error: BaseException) -> None:
    """Raises errors that are not the plug-in's, such as Ctrl-C; a call of sys.exit is its own."""
    if not isinstance(error, Exception | SystemExit):
        raise error


def failure(
    what: str, error: BaseException, remedy: str, message: str | None = None
) -> errors.ConfigError:
    """Returns the error to raise for a plug-in that fails.

    Args:
        what: the plug-in and what fails, such as `plug-in 'mine' cannot be imported`.
        error: the error that it raised.
        remedy: what the user can do.
        message: text to show instead of the message of `error`.

    Returns:
        An error that names the last line of the user's code that led to `error`.
    """
    lines = [f"{what}:"]
    frame = _blamed(error)
    if frame is not None:
        lines.append(f"{frame.filename} line {frame.lineno}: {frame.line or ''}".rstrip(": "))
    if isinstance(error, ModuleNotFoundError) and error.name:
        remedy = f"install the package that has {error.name!r}, or {remedy}"
    if message is None:
        message = error.msg if isinstance(error, SyntaxError) else str(error)
    lines += [f"{type(error).__name__}: {message}", remedy]
    return errors.ConfigError("\n  ".join(lines))


def _blamed(error: BaseException) -> traceback.FrameSummary | None:
    """Returns the last line of the user's code that led to an error, else of another package."""
    if isinstance(error, SyntaxError) and error.filename:
        text = (error.text or "").strip()
        return traceback.FrameSummary(error.filename, error.lineno or 0, "", line=text)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen", _OWN, os.path.dirname(importlib.__file__)))
    ]
    own = [frame for frame in frames if f"{os.sep}site-packages{os.sep}" not in frame.filename]
    chosen = own or frames
    return chosen[-1] if chosen else None
