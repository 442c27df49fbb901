"""Lines for the user that are not a command's output."""

import sys


def to_stderr(line: str) -> None:
    """Prints a line on standard error at once, also if that is a file."""
    print(line, file=sys.stderr, flush=True)
