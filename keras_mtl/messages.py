"""Lines for the user that are not part of a command's output."""

import sys


def to_stderr(line: str) -> None:
    """Prints a line to standard error and flushes it."""
    print(line, file=sys.stderr, flush=True)
