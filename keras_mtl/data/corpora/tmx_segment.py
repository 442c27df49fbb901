"""The text of a TMX segment: which inline elements separate words and which do not.

Inline elements hold codes of the document's format, for example `<ph>&lt;br/&gt;</ph>`. The codes
are not part of the text. A code that stands for something between two words (a line break, an
image) leaves a space, so that `Click<ph/>here` does not become `Clickhere`. Formatting codes leave
nothing, as they often begin inside a word: `<bpt>&lt;b&gt;</bpt>C<ept>&lt;/b&gt;</ept>lick`.
"""

import itertools
import re
import unicodedata
from collections.abc import Mapping

# Represents a code that separates words in the collected text; not a character of XML.
BREAK = "\x00"

# Elements whose content is code, and whether one that says nothing about itself separates words.
# TMX 1.4b: `bpt` and `ept` begin and end a paired code, mostly formatting; `it` is one of a pair
# whose other half is in another segment; `ph` is a code on its own; `ut` is an unknown code.
CODE_ELEMENTS = {"bpt": False, "ept": False, "it": False, "ph": True, "ut": True}

# Types of `ph` and other codes that TMX 1.4b names, with what they mean between two words.
_TYPES = {
    **dict.fromkeys(
        ("bold", "color", "dulined", "font", "italic", "link", "scap", "ulined", "fmt"), False
    ),
    **dict.fromkeys(
        ("alt", "cb", "date", "enote", "fnote", "image", "inset", "lb", "pb", "struct", "time"),
        True,
    ),
}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Tags of HTML, XLIFF and OmegaT (`<f0>`, `<b1>`) that begin or end inside words.
_FORMATTING_TAGS = _names(
    "a abbr acronym b bdi bdo big bpt bx cf cite code del dfn em ept ex f font g hi i ins it kbd "
    "mark mrk nobr q rp rt ruby s samp small span strike strong sub sup tt u var wbr"
)

# Tags of the same formats that separate words, whatever stands inside them.
_SEPARATING_TAGS = _names(
    "address article aside audio blockquote br button caption cb center col dd div dl dt embed "
    "figure footer form h header hr iframe image img input lb legend li nav object ol option p "
    "para pb ph pre section select tab table tbody td textarea tfoot th thead title tr ul video x"
)

_TAG = re.compile(r"</?([a-zA-Z][\w.-]*)")
_RTF_SEPARATOR = re.compile(r"\\(?:par|line|tab|page|cell|row|sect|column)(?![a-z])|\\~")
_RTF = re.compile(r"^\s*(?:[{}]|\\[a-z*'-])")

# A soft hyphen, zero-width space, joiner or non-joiner, word joiner or byte order mark: characters
# that stand inside words. RTF writes the soft hyphen as \-.
_INSIDE_WORDS = re.compile("^(?:\u00ad|[\u200b-\u200d]|\u2060|\ufeff|&shy;|&zw(?:n?j|sp);|\\\\-)+$")

# Scripts that are written without spaces between words: Thai, Lao, Myanmar, Khmer, kana, Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff]"
)


def separates_words(element: str, attributes: Mapping[str, str], content: str) -> bool:
    """Returns whether a code separates two words.

    Args:
        element: a key of `CODE_ELEMENTS`.
        attributes: the element's attributes.
        content: the native code inside it, for example `<br/>` or `{\\b `.
    """
    if content:
        if content.isspace():
            return True
        if _INSIDE_WORDS.match(content):
            return False
        tags = [name.lower() for name in _TAG.findall(content)]
        if any(separating_tag(name) for name in tags):
            return True
        if tags:
            # White space around a tag is text: "</b> ".
            outside = content.strip(" \t\r\n\u00a0") != content
            if outside and not _RTF.match(content):
                return True
            if all(_without_number(name) in _FORMATTING_TAGS for name in tags):
                return False
        elif _RTF_SEPARATOR.search(content):
            return True
        elif _RTF.match(content):
            # "{}" is how memoQ and others write a formatting code without content.
            return False
    kind = attributes.get("type", "").lower()
    return _TYPES.get(kind, CODE_ELEMENTS[element])


def separating_tag(name: str) -> bool:
    """Returns whether a lower-case tag of a document format separates words: `br`, `td`."""
    return _without_number(name) in _SEPARATING_TAGS


def _without_number(name: str) -> str:
    """Returns a tag's name without its number: `h1` of HTML, `b0` of OmegaT."""
    return name.rstrip("0123456789")


def close_breaks(text: str) -> str:
    """Replaces each run of `BREAK` by a space between two words, and by nothing elsewhere.

    No space is needed next to white space or punctuation, or in scripts without spaces.
    """
    if BREAK not in text:
        return text
    pieces = [piece for piece in text.split(BREAK) if piece]
    parts = pieces[:1]
    for before, after in itertools.pairwise(pieces):
        if _in_word(before[-1]) and _in_word(after[0]):
            parts.append(" ")
        parts.append(after)
    return "".join(parts)


def _in_word(character: str) -> bool:
    # Letters, marks and numbers: vowel signs of Indic scripts are marks.
    return unicodedata.category(character)[0] in "LMN" and not _UNSPACED.match(character)
