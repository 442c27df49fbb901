"""From a program's message and its translation to a pair of sentences.

Messages carry what is not language: keyboard mnemonics, placeholders, prefixes for the translator,
help tables. Some of it is removed; a pair where it cannot be is dropped, under a rule's name.
"""

import re
from collections import Counter

# printf in C, Python and Qt, positional or not, with flags, width, precision and length; the flag
# "space" is left out, because "50 % of" is prose. binutils' own %B, %F, %pA are of the same shape.
_PRINTF = re.compile(
    r"%(?:%|\(\w+\)[-+#0]*\d*(?:\.\d+)?[a-zA-Z]"
    r"|(?:\d+\$)?[-+#0']*(?:\*|\d+)?(?:\.(?:\*|\d+))?(?:hh|h|ll|l|q|j|z|t|L|p)?[a-zA-Z](?![a-zA-Z]{2})"
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
# A paragraph is wrapped into a few lines; more is a screen of text.
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

_WORD_START_UNDERSCORE = re.compile(r"(?<![\w\\/.])_(?=[^\W_])")
_INNER_UNDERSCORE = re.compile(r"(?<![A-Za-z_])[A-Z]?[a-z]*_[a-z]+(?![\w])")
_WORD_START_AMPERSAND = re.compile(r"(?<![\w&])&(?=[^\W_])(?!#?\w+;)")
_INNER_AMPERSAND = re.compile(r"(?<=[^\W\d_])&(?=[a-z])(?!#?\w+;)")
_ANY_AMPERSAND = re.compile(r"(?<!&)&(?=[^\W_])(?!#?\w+;)")
# "ファイル(_F)", "Файл (&F)": scripts without the mnemonic's letter put it behind.
_BEHIND = re.compile(r"\s*\((?:_|&)\w\)")
# A label of a menu or button is short; in longer texts _ and & are names and operators.
_LABEL_WORDS = 8


def placeholders(text: str) -> tuple[Counter[str], frozenset[str]]:
    """Returns what a translation must keep.

    Returns:
      The printf conversions with their number of uses, without positions (``%2$s`` counts as
      ``%s``, for languages change the order), and the set of named or numbered fields (a
      language may need to say one twice).
    """
    conversions: Counter[str] = Counter()
    named = set(_BRACES.findall(text)) if "{" in text else set()
    if "%" in text:
        for found in _PRINTF.findall(text):
            if found.startswith("%(") or found[-1].isdigit() or found[-1] == ">":
                named.add(found)
            elif found != "%%":
                conversions[_POSITION.sub("%", found)] += 1
    return conversions, frozenset(named)


def mnemonic_marker(identifier: str) -> str:
    """Returns ``_`` or ``&`` when the message's text has a keyboard mnemonic, else an empty string.

    Decided on the English text alone: exactly one marker in a label of at most 8 words, before a
    letter or digit. At the beginning of a word (``_File``, ``Save &As``) it is always a mnemonic;
    inside of one (``E_xit``, ``Cu&t``) when the text begins with a capital letter, so that
    ``table_name`` and ``AT&T`` are left alone, as are ``A & B``, ``&amp;`` and names with several
    underscores.
    """
    if ("_" not in identifier and "&" not in identifier) or len(identifier.split()) > _LABEL_WORDS:
        return ""
    label = identifier[:1].isupper()
    if identifier.count("_") == 1 and (
        _WORD_START_UNDERSCORE.search(identifier)
        or (label and _INNER_UNDERSCORE.search(identifier))
    ):
        return "_"
    single = identifier.replace("&&", "")
    if single.count("&") == 1 and (
        _WORD_START_AMPERSAND.search(single) or (label and _INNER_AMPERSAND.search(single))
    ):
        return "&"
    return ""


def remove_mnemonic(text: str, marker: str) -> str:
    """Returns a text without its mnemonic.

    Args:
      text: the English text or a translation of it.
      marker: what ``mnemonic_marker`` found in the English text.
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
    """Says whether a text is a table, a help screen or more than a paragraph."""
    return bool(_LAYOUT.search(text)) or text.count("\n") >= _MAX_LINES


def clean_pair(identifier: str, source: str, target: str) -> tuple[str, str] | str:
    """Returns the pair of sentences, or the name of the rule that drops it.

    Args:
      identifier: the msgid (or msgid_plural) that both sides translate; it may be one of them.
      source: text in the source language.
      target: text in the target language.

    Returns:
      (source, target), or ``untranslated``, ``credits``, ``layout`` or ``placeholders``.
    """
    identifier, source, target = identifier.strip(), source.strip(), target.strip()
    if not source or not target:
        return "untranslated"
    if identifier in _CREDITS:
        return "credits"
    # glib's old way to give a context: "keyboard label|Alt".
    if "|" in identifier:
        bars = min(source.count("|"), target.count("|"))
        if source == identifier and source.count("|") == bars + 1:
            source = source.partition("|")[2]
        elif target == identifier and target.count("|") == bars + 1:
            target = target.partition("|")[2]
    if is_layout(source) or is_layout(target):
        return "layout"
    marker = mnemonic_marker(identifier)
    if marker:
        source, target = remove_mnemonic(source, marker), remove_mnemonic(target, marker)
    if placeholders(source) != placeholders(target):
        return "placeholders"
    return " ".join(source.split("\n")), " ".join(target.split("\n"))
