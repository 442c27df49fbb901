"""Notes on unusual language codes of tasks, for `keras-mtl inspect`.

A code becomes a tag of the vocabulary and selects the text in corpora of many languages. Users may
define codes such as `en_formal`, so no note is an error.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from babel.core import Locale

from keras_mtl.data import languages

_MOST_SHOWN = 3  # Largest number of tasks in a note.

# Norwegian Bokmål is nb in ISO 639-1 and no in CLDR; both are common.
_BOTH_USUAL = frozenset({"nb", "no"})


class Direction(NamedTuple):
    """A task: its name and its language codes."""

    name: str
    source: str
    target: str


def language_notes(tasks: Iterable[Direction]) -> list[str]:
    """Returns notes on language codes of tasks that look wrong.

    Args:
        tasks: the tasks.

    Returns:
        The notes; each names the tasks and a remedy.

    Example:
        >>> language_notes([Direction("en-fr", "en", "FR")])
        ["'FR' (task en-fr): the usual code is 'fr'; write it in every task of this language"]
    """
    tasks = list(tasks)
    users: dict[str, dict[str, None]] = {}  # As ordered sets.
    for task in tasks:
        for code in (task.source, task.target):
            users.setdefault(code, {})[task.name] = None
    notes = list(_same_sides(tasks))
    for code, names in users.items():
        note = _note(code)
        if note:
            notes.append(f"{code!r} ({_listed(list(names))}): {note}")
    notes += _spellings(users)
    return notes


def _same_sides(tasks: Sequence[Direction]) -> Iterator[str]:
    for task in tasks:
        if languages.fit(task.source, task.target) is languages.Fit.EXACT or (
            task.source == task.target
        ):
            yield (
                f"task {task.name}: source {task.source!r} and target {task.target!r} are one "
                "language; correct one of them. If the texts differ in another way, say so in the "
                f"code, such as {task.target + '_formal'!r}"
            )


def _note(code: str) -> str:
    """Returns a note on one code; empty if it is usual."""
    tag = languages.parse(code)
    if tag is None or not languages.is_known(code):
        named = _codes_by_name().get(code.casefold())
        hint = f"; did you mean {named!r}?" if named else "."
        return (
            f"not a known language code{hint} Codes are those of BCP 47, such as 'fr' and 'pt-BR'; "
            "one of your own is fine if your corpora have it"
        )
    usual = code
    first = re.split("[-_@.]", code)[0]
    if first != tag.language and not {first, tag.language} <= _BOTH_USUAL:
        usual = str(tag)
    # fr-FR means the same as fr.
    if tag.region == tag.language.upper() and not tag.script and not tag.variants:
        usual = tag.language
    if usual == code:
        return ""
    return f"the usual code is {usual!r}; write it in every task of this language"


def _spellings(users: dict[str, dict[str, None]]) -> Iterator[str]:
    """Returns notes on different codes of one language, which become different tags."""
    groups: dict[str, list[str]] = {}
    for code in users:
        tag = languages.parse(code)
        if tag is not None:
            groups.setdefault(str(tag), []).append(code)
    for codes in groups.values():
        if len(codes) > 1:
            shown = " and ".join(f"{code!r} ({_listed(list(users[code]))})" for code in codes)
            yield (
                f"{shown} are one language, but each target code gets its own tag; write "
                "one of them everywhere"
            )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_SHOWN])
    others = f" and {len(names) - _MOST_SHOWN:,} more" if names[_MOST_SHOWN:] else ""
    return f"task{'s' if len(names) > 1 else ''} {shown}{others}"


@functools.cache
def _codes_by_name() -> dict[str, str]:
    """Returns {English name of a language in lower case: code}."""
    return {name.casefold(): code for code, name in Locale("en").languages.items()}
