"""Converts a program's message and its translation to a pair of sentences.

Messages contain parts that are not language: keyboard mnemonics, placeholders, prefixes for the
translator, help tables. Some are removed; other pairs are dropped and counted by rule.
"""

import re
from collections import Counter
from collections.abc import Sequence

# printf in C, Python and Qt, positional or not, with flags, width, precision and length; the flag
# "space" is left out, because "50 % of" is prose. binutils' own %B, %F, %pA are of the same shape,
# and catalogs have the macros of <inttypes.h> as %<PRIu64>.
_PRINTF = re.compile(
    r"%(?:%|\(\w+\)[-+#0]*\d*(?:\.\d+)?[a-zA-Z]"
    r"|(?:\d+\$)?[-+#0']*(?:\*|\d+)?(?:\.(?:\*|\d+))?"
    r"(?:(?:hh|h|ll|l|q|j|z|t|L|p)?[a-zA-Z]|<PRI\w+>)"
    r"|<\w+>|L?\d+)"
)
# {}, {0}, {name}, {name!r:>10}, ${x}: Python, C#, shell.
_BRACES = re.compile(r"\$?\{[\w.\[\]]*(?:![rsa])?(?::[^{}\s]*)?\}")
_POSITION = re.compile(r"^%\d+\$")

_LAYOUT = re.compile(
    r"\t"  # columns by tabulators
    r"|(?<![.!?:;,)\s\"'»”]) {2,}(?=\S)"  # columns by spaces; two after a full stop are old style
    r"| {4,}(?=\S)"  # columns by many spaces
    r"|\n\s*[-*•|+]"  # an option or a list item on a line of its own
    r"|\n {2,}\S"  # an indented line
    r"|^\s*--?\w[^.]* {2,}\S"  # "-x, --option  what it does"
)
# A paragraph has a few lines; more lines are a screen of text.
_MAX_LINES = 4

# Messages that ask for the translators' names: their "translations" are not.
_CREDITS = frozenset(
    {
        "translator-credits",
        "translator_credits",
        "Your names",
        "Your emails",
        "NAME OF TRANSLATORS",
        "EMAIL OF TRANSLATORS",
    }
)

# The word with the marker: at its beginning, or after letters that begin it.
_UNDERSCORE = re.compile(r"(?<![\w\\/.$])(?:_(?=[^\W_])|[A-Z]?[a-z]*_(?=[a-z]))\w*")
_AMPERSAND = re.compile(r"(?<![\w&])[^\W\d_]*&(?!#?\w+;)[^\W_]\w*")
_ANY_AMPERSAND = re.compile(r"(?<!&)&(?=[^\W_])(?!#?\w+;)")
# "ファイル(_F)", "Файл (&F)": scripts without the mnemonic's letter put it behind.
_BEHIND = re.compile(r"\s*\((?:_|&)\w\)")
# A label of a menu or button is short; in longer texts _ and & are parts of names or operators.
_LABEL_WORDS = 8


def placeholders(text: str) -> tuple[Counter[str], frozenset[str]]:
    """Returns the placeholders that a translation must keep.

    Returns:
        The printf conversions with their number of uses, without positions (`%2$s` counts as
        `%s`, for languages change the order), and the set of named or numbered fields (a
        language may need to say one twice).
    """
    conversions: Counter[str] = Counter()
    named = set(_BRACES.findall(text)) if "{" in text else set()
    if "%" in text:
        for found in _PRINTF.findall(text):
            has_name = found.startswith(("%(", "%<")) and not found.startswith("%<PRI")
            if has_name or found[-1].isdigit():
                named.add(found)
            elif found != "%%":
                conversions[_POSITION.sub("%", found)] += 1
    return conversions, frozenset(named)


def mnemonic_marker(identifier: str, translations: Sequence[str]) -> str:
    """Returns `_` or `&` if a message has a keyboard mnemonic, else an empty string.

    A mnemonic is the only marker in an English label of at most 8 words, before a letter or digit,
    at the beginning of a word (`_File`, `Save &As`) or inside a word (`E_xit`, `Cu&t`). A marker
    is not a mnemonic

    * inside a word of a text that begins with a small letter (`table_name`), or before a capital
      letter (`AT&T`), or if a translation has several underscores;
    * in a word that the translations keep unchanged (`client_encoding`), unless the word begins
      with it and the label has at most 3 words (`_Menu`);
    * in `A & B`, `&amp;`, `a && b`.

    Args:
        identifier: the English text.
        translations: texts in other languages; without any, there is no mnemonic.
    """
    words = len(identifier.split())
    if words > _LABEL_WORDS:
        return ""
    for marker, pattern in (("_", _UNDERSCORE), ("&", _AMPERSAND)):
        single = identifier.replace("&&", "")
        match = pattern.search(single) if single.count(marker) == 1 else None
        if match is None:
            continue
        word = match.group()
        inside = not word.startswith(marker)
        follower = word[word.index(marker) + 1]
        if inside and not (
            identifier[0].isupper()
            and follower.islower()
            and all(text.replace("&&", "").count(marker) <= 1 for text in translations)
        ):
            continue
        if all(word in text for text in translations) and (inside or words > 3):
            continue
        return marker
    return ""


def remove_mnemonic(text: str, marker: str) -> str:
    """Returns a text without its mnemonic.

    Args:
        text: the English text or a translation of it.
        marker: the result of `mnemonic_marker` for the English text.
    """
    if not marker or marker not in text:
        return text
    behind = _BEHIND.sub("", text)
    if behind != text:
        return behind
    if marker == "_":
        return text.replace("_", "", 1) if text.count("_") == 1 else text
    text = _ANY_AMPERSAND.sub("", text, count=1)
    return text.replace("&&", "&")


def is_layout(text: str) -> bool:
    """Returns whether a text is a table, a help screen or longer than a paragraph."""
    return bool(_LAYOUT.search(text)) or text.count("\n") >= _MAX_LINES


def clean_pair(identifier: str, source: str, target: str) -> tuple[str, str] | str:
    """Returns the pair of sentences, or the name of the rule that drops it.

    Args:
        identifier: the msgid (or msgid_plural) that both sides translate; it may be one of them.
        source: text in the source language.
        target: text in the target language.

    Returns:
        (source, target), or `untranslated`, `credits`, `layout` or `placeholders`.
    """
    identifier, source, target = identifier.strip(), source.strip(), target.strip()
    if not source or not target:
        return "untranslated"
    if identifier in _CREDITS:
        return "credits"
    # The old glib syntax of a context: "keyboard label|Alt".
    if "|" in identifier:
        bars = min(source.count("|"), target.count("|"))
        if source == identifier and source.count("|") == bars + 1:
            source = source.partition("|")[2]
        elif target == identifier and target.count("|") == bars + 1:
            target = target.partition("|")[2]
    if is_layout(source) or is_layout(target):
        return "layout"
    translations = [text for text in (source, target) if text != identifier]
    marker = mnemonic_marker(identifier, translations) if translations else ""
    if marker:
        source, target = remove_mnemonic(source, marker), remove_mnemonic(target, marker)
    if placeholders(source) != placeholders(target):
        return "placeholders"
    return " ".join(source.split("\n")), " ".join(target.split("\n"))
