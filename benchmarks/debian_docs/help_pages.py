"""LibreOffice help: paragraphs have the same file and the same id in every language."""

import html
import re
from collections.abc import Iterator
from pathlib import Path

_PARAGRAPH = re.compile(
    r'<(p|h[1-6])\b([^>]*?\bid="((?:par|hd|tit)_[^"]+)"[^>]*)>(.*?)</\1>', re.DOTALL
)
_TAG = re.compile(r"<[^>]+>")


def read_pages(directory: Path) -> dict[tuple[str, str], str]:
    """Returns the paragraphs of a language, without program code, by file and id."""
    found: dict[tuple[str, str], str] = {}
    for path in sorted((directory / "text").rglob("*.html")):
        name = str(path.relative_to(directory))
        page = path.read_text(encoding="utf-8", errors="replace")
        for match in _PARAGRAPH.finditer(page):
            if "code" not in match[2]:
                text = html.unescape(_TAG.sub("", match[4])).strip()
                if text:
                    found.setdefault((name, match[3]), text)
    return found


def pairs(
    english: dict[tuple[str, str], str], other: dict[tuple[str, str], str]
) -> Iterator[tuple[str, str]]:
    """Yields the paragraphs that both languages have."""
    for key, text in other.items():
        if key in english:
            yield english[key], text
