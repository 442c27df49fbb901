"""Errors that a user can fix.

The command line prints their message after `error:` and exits with code 2. Any other exception is a
bug and keeps its traceback. Each message names the file or field, its value and the remedy.
"""

import difflib
from collections.abc import Iterable

_MOST_LISTED = 10  # Tasks in a message; a longer list would hide the rest of the message.


class KerasMtlError(ValueError):
    """Base class of all errors whose message tells the user what to change.

    Example:
        ```python
        import keras_mtl

        try:
            keras_mtl.load_config("run.yaml")
        except keras_mtl.KerasMtlError as error:
            print(error)  # run.yaml: no such file; check the path
        ```
    """


class ConfigError(KerasMtlError):
    """A configuration field, override or registered name is wrong."""


class DataError(KerasMtlError):
    """A corpus, vocabulary or prepared store is missing, damaged or unusable."""


class CheckpointError(KerasMtlError):
    """A checkpoint or model directory cannot be used."""


class ExportError(KerasMtlError):
    """A model cannot be exported, or an exported model cannot be loaded."""


class InputError(KerasMtlError):
    """Text, ids or options given to a trained model are out of range."""


class WorkerError(KerasMtlError):
    """Another process of a run with several workers has failed, or differs from this one."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns a remedy for an unknown name: the nearest one, or all known ones if there are few.

    Args:
        name: what the user wrote.
        known: the names that exist.

    Returns:
        Text to append to an error message. It begins with "; ", or is empty if no name is known.
    """
    names = sorted(known)
    if not names:
        return ""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    if len(names) <= 20:
        return f"; known: {', '.join(names)}"
    return f"; none of the {len(names)} known names is similar"


def nearest_task(name: str, known: Iterable[str], listing: str = "keras-mtl inspect") -> str:
    """Returns a remedy for an unknown task: the nearest one, and all tasks if there are few.

    Args:
        name: what the user wrote.
        known: the names of the tasks, in their order.
        listing: command that lists the tasks; empty if the user's own program names them.

    Returns:
        Text to append to an error message; it begins with "; ".
    """
    names = list(known)
    if not names:
        return "; there are no tasks"
    if len(names) == 1:
        text = f"the only task is {names[0]}"
    elif len(names) <= _MOST_LISTED:
        text = f"the tasks are {', '.join(names)}"
    else:
        text = f"there are {len(names):,} tasks" + (f"; `{listing}` lists them" if listing else "")
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}? T{text[1:]}" if close else f"; {text}"
