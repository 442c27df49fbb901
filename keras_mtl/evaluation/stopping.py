"""Interruption of an evaluation."""

from collections.abc import Callable

PAIRS_AT_ONCE = 512
"""Number of pairs between two checks whether to stop.

The engine translates them in a few seconds with a large model on two processors, and they are
enough work for many threads.
"""


class EvaluationStopped(Exception):
    """An evaluation was stopped before its end."""


def raise_if_stopped(stopped: Callable[[], bool] | None, task: str) -> None:
    """Raises EvaluationStopped, with the name of the task, if `stopped` returns True."""
    if stopped is not None and stopped():
        raise EvaluationStopped(task)
