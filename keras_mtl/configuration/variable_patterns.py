"""Checks of regular expressions that select variables."""

import re
from collections.abc import Sequence

from keras_mtl.configuration.draft import Draft


def check_patterns(draft: Draft, path: str, patterns: Sequence[str]) -> None:
    """Adds a problem for each text of a field that is not a regular expression."""
    for index, pattern in enumerate(patterns):
        check_pattern(draft, f"{path}[{index}]", pattern)


def check_pattern(draft: Draft, path: str, pattern: str) -> bool:
    """Adds a problem if a text is not a regular expression; returns whether it is one."""
    try:
        re.compile(pattern)
    except re.error as error:
        draft.problem(path, f"= {pattern!r} is not a regular expression: {error}")
        return False
    return True
