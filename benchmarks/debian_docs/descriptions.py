"""Package descriptions: a description and its translations have the MD5 of the English text."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_MD5 = re.compile(r"^Description-md5: (\w+)$", re.MULTILINE)
_SHORT = re.compile(r"^Description-[\w@-]+: ?(.*)$", re.MULTILINE)
_ITEM = re.compile(r"^ +([*+\-o•–·]|\d+[.)]|[a-z]\)) +")
# What the translators' tool writes for a part without a translation.
_UNTRANSLATED = "<trans>"


class Block(NamedTuple):
    """A part of a description.

    Attributes:
        kind: `synopsis`, `paragraph`, `item` or `verbatim`.
        text: its text.
    """

    kind: str
    text: str


def read_index(text: str) -> dict[str, list[Block]]:
    """Returns the blocks of each description of an index by MD5."""
    found = {}
    for stanza in text.split("\n\n"):
        md5 = _MD5.search(stanza)
        if md5 is None:
            continue
        short = _SHORT.search(stanza, md5.end())
        if short is not None:
            found[md5[1]] = blocks(short[1], stanza[short.end() :])
    return found


def blocks(synopsis: str, body: str) -> list[Block]:
    """Returns the blocks of a description, in the format of Debian Policy, section 5.6.13."""
    found = [Block("synopsis", synopsis)]
    is_open = False  # Whether the next line may belong to the last block.
    for line in body.split("\n"):
        if not line:
            continue
        if line.rstrip() == " .":
            is_open = False
            continue
        indent = len(line) - len(line.lstrip(" "))
        item = _ITEM.match(line)
        in_item = is_open and found[-1].kind == "item"
        if item and (indent >= 2 or item[1] in "*-+•"):
            found.append(Block("item", line[item.end() :].strip()))
        elif indent >= 2 and not in_item:
            found.append(Block("verbatim", line.strip()))
            is_open = False
            continue
        elif is_open and not (indent == 1 and in_item):
            found[-1] = Block(found[-1].kind, f"{found[-1].text} {line.strip()}")
        else:
            found.append(Block("paragraph", line.strip()))
        is_open = True
    return found


def pairs(english: list[Block], other: list[Block]) -> Iterator[tuple[str, str]]:
    """Yields the texts of a description and its translation.

    If their structures differ, only the synopses correspond.
    """
    if [block.kind for block in english] != [block.kind for block in other]:
        english, other = english[:1], other[:1]
    for left, right in zip(english, other, strict=True):
        texts = left.text, right.text
        if left.kind != "verbatim" and not any(_UNTRANSLATED in text for text in texts):
            yield texts
