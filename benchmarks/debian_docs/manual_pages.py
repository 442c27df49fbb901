"""Manual pages: po4a keeps the macros of a page, so that the texts between them correspond."""

import difflib
import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Macros that do not end a paragraph: comments, definitions, fonts and spacing.
_SKIPPED = frozenset(
    [
        *(".TH", ".so", ".ie", ".el", ".if", ".ds", ".nr", ".ad", ".hy", ".na", ".nh", ".ft"),
        *(".ta", ".mso", ".Dd", ".Dt", ".Os", ".in", ".ti"),
    ]
)
_FONTS = frozenset(
    [
        *(".B", ".I", ".BR", ".IR", ".BI", ".IB", ".RB", ".RI", ".SM", ".SB"),
        *(".UR", ".UE", ".MT", ".ME"),
    ]
)
_JOINED = frozenset([".BR", ".IR", ".BI", ".IB", ".RB", ".RI"])
_HEADINGS = frozenset((".SH", ".SS", ".Sh", ".Ss"))
_DEFINITIONS = frozenset((".de", ".de1", ".am"))
_VERBATIM = {".nf": ".fi", ".EX": ".EE", ".TS": ".TE"}
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
# groff_char(7), and escapes without a character.
_ESCAPES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\f(\[\w*\]|\(\w\w|.)", ""),
        (r"\\\(co", "©"),
        (r"\\(\(aq|\[aq\])", "'"),
        (r"\\(\(dq|\[dq\])", '"'),
        (r"\\(\(em|\[em\])", "—"),
        (r"\\(\(en|\[en\])", "–"),
        (r"\\\((?:lq|Lq)|\\\[lq\]", "“"),
        (r"\\\(rq|\\\[rq\]", "”"),
        (r"\\\(Fo|\\\[Fo\]", "«"),
        (r"\\\(Fc|\\\[Fc\]", "»"),
        (r"\\\(bu|\\\[bu\]", "•"),
        (r"\\[&|^%/,:)c]", ""),
        (r"\\-", "-"),
        (r"\\\[e\]|\\e", r"\\"),
        (r"\\ |\\~|\\0", " "),
        (r"\\s[-+]?\d", ""),
        (r"\\'", "'"),
        (r"\\`", "`"),
        (r"\\\(ti|\\\[ti\]", "~"),
        (r"\\\(ha|\\\[ha\]", "^"),
        (r"\\\*\(\w\w|\\\*.", ""),
        (r"\\[dumhv]('[^']*')?", ""),
    )
]
_CODE_POINT = re.compile(r"\\\[u([0-9A-F]{4,5})\]")
# A page may differ from its translation by an added section of the translator, or a little more.
_LEAST_RATIO, _LEAST_RUN, _MOST_BLOCKS = 0.95, 8, 3000
# A text and its translation differ by less than this factor in length.
_LONGEST_RATIO = 3.5


class Block(NamedTuple):
    """A text, or a macro without one.

    Attributes:
        kind: the macro, or `text`.
        text: its text; empty for a macro without one.
    """

    kind: str
    text: str


def index(directory: Path) -> dict[str, Path]:
    """Returns the pages of a directory such as `usr/share/man/de` by section and name."""
    return {
        f"{page.parent.name}/{page.name}": page
        for page in sorted(directory.glob("man[0-9]*/*.gz"))
        if not page.is_symlink()
    }


def read_page(path: Path) -> list[Block] | None:
    """Returns the blocks of a page; None if it is not UTF-8."""
    try:
        return blocks(gzip.decompress(path.read_bytes()).decode("utf-8"))
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError):
        return None


def blocks(page: str) -> list[Block]:
    """Returns the blocks of a page in man or mdoc macros."""
    reader = _Reader()
    for line in page.split("\n"):
        reader.line(line)
    reader.flush()
    return reader.blocks


def pairs(english: list[Block], other: list[Block]) -> Iterator[tuple[str, str]]:
    """Yields the texts of a page and its translation, if their macros agree."""
    for left, right in _aligned(english, other):
        lengths = len(left.text) + 10, len(right.text) + 10
        if left.text and right.text and max(lengths) <= _LONGEST_RATIO * min(lengths):
            yield left.text, right.text


def _aligned(english: list[Block], other: list[Block]) -> list[tuple[Block, Block]]:
    first, second = [block.kind for block in english], [block.kind for block in other]
    if len(first) < 4:
        return []
    if second[: len(first)] == first:
        return list(zip(english, other, strict=False))
    if len(first) > _MOST_BLOCKS:
        return []
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    if matcher.ratio() <= _LEAST_RATIO:
        return []
    found: list[tuple[Block, Block]] = []
    for i, j, count in matcher.get_matching_blocks():
        if count >= _LEAST_RUN:
            found += zip(english[i : i + count], other[j : j + count], strict=True)
    return found


class _Reader:
    """Collects the blocks of a page line by line."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._words: list[str] = []
        self._kind = "text"
        self._until = ""  # The line that ends what is skipped; empty if nothing is.

    def flush(self) -> None:
        """Ends the current text."""
        if self._words:
            self.blocks.append(Block(self._kind, _plain(" ".join(self._words))))
        self._words, self._kind = [], "text"

    def line(self, line: str) -> None:
        """Takes the next line."""
        if self._until:
            if line.startswith(self._until):
                self._until = ""
        elif line.startswith(("'\\\"", '.\\"', "'\\")):
            pass
        elif line[:1] in (".", "'"):
            self._macro(line)
        elif line.strip():
            self._words.append(line.strip())
        else:
            self.flush()

    def _macro(self, line: str) -> None:
        name, _, rest = line[1:].strip().partition(" ")
        name = f".{name}"
        if name in _SKIPPED or name == ".":
            return
        if name in _DEFINITIONS:
            self._until = ".."
        elif name in _FONTS:
            words = [quoted or plain for quoted, plain in _ARGUMENT.findall(rest)]
            self._words.append(("" if name in _JOINED else " ").join(words))
        elif name in _VERBATIM:
            self.flush()
            self.blocks.append(Block(name, ""))
            self._until = _VERBATIM[name]
        else:
            self.flush()
            if name not in _HEADINGS:
                self.blocks.append(Block(name, ""))
            elif rest:
                words = [quoted or plain for quoted, plain in _ARGUMENT.findall(rest)]
                self.blocks.append(Block(name, _plain(" ".join(words))))
            else:
                self._kind = name  # The heading is on the next line.


def _plain(text: str) -> str:
    for pattern, replacement in _ESCAPES:
        text = pattern.sub(replacement, text)
    return _CODE_POINT.sub(lambda match: chr(int(match[1], 16)), text)
