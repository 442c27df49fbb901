"""Language codes as corpora write them: `fr`, `pt_BR`, `zh-hant`, `eng`, `sr@latin`, `de_DE.UTF-8`.

Codes are compared by BCP 47 (https://www.rfc-editor.org/info/bcp47): language, script, region and
variants. Synonyms, the usual script of a language and its most likely region come from the CLDR
data of Babel: `iw` is `he`, `fre` is `fr`, and `zh-TW` is written in another script than `zh`.
Codes in different scripts never match, so the caller must name the script.
"""

import enum
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, cast

from babel.core import get_global

# CLDR prefers "no" for Norwegian Bokmål and has no alias for "nb"; RFC 5646 lists the others as
# grandfathered tags.
_SYNONYMS = {"nb": "no", "no-bok": "no", "no-nyn": "nn", "i-klingon": "tlh", "i-lux": "lb"}

# Scripts that locale modifiers (sr@latin) and codes older than BCP 47 (zh-CHS of Windows) name in
# their own words.
_SCRIPT_WORDS = {
    "arabic": "Arab",
    "chs": "Hans",
    "cht": "Hant",
    "cyrillic": "Cyrl",
    "devanagari": "Deva",
    "hebrew": "Hebr",
    "iqtelif": "Latn",
    "latin": "Latn",
    "shaw": "Shaw",
}

# Modifiers without meaning for the text: a currency, the sorting of the C locale.
_WITHOUT_MEANING = frozenset({"euro", "posix"})

_SEPARATORS = re.compile("[-_]+")

# Languages whose code may be followed by the code of a member language: zh-yue is yue.
_MACROLANGUAGES = frozenset({"ar", "kok", "lv", "ms", "sgn", "sw", "uz", "zh"})


@dataclass(frozen=True, slots=True)
class LanguageTag:
    """A parsed language code, with synonyms replaced by the code that CLDR prefers.

    Attributes:
        language: language subtag in lower case, for example `pt`.
        script: script subtag such as `Latn`; empty if the code names none.
        region: region subtag such as `BR` or `419`; empty if the code names none.
        variants: all other subtags that distinguish texts, in lower case and sorted: `valencia`.
    """

    language: str
    script: str
    region: str
    variants: tuple[str, ...]

    @property
    def likely_script(self) -> str:
        """The script of the code, or the usual script of its language and region.

        Empty if CLDR does not know the language.
        """
        return self.script or _likely(self.language, self.region).script

    @property
    def likely_region(self) -> str:
        """The region of the code, or the most likely region of its language and script."""
        return self.region or _likely(self.language, self.script).region

    def __str__(self) -> str:
        return "-".join(filter(None, (self.language, self.script, self.region, *self.variants)))


class Fit(enum.IntEnum):
    """How well a code matches a wanted code; lower is better.

    EXACT: both mean the same. LIKELY_REGION: only one of them names a region, and it is the most
    likely region of the language (`pt` and `pt-BR`). OTHER_REGION: only one of them names a region,
    and it is a less likely one (`pt` and `pt-PT`).
    """

    EXACT = 0
    LIKELY_REGION = 1
    OTHER_REGION = 2


class _Likely(NamedTuple):
    """Returns the most likely script and region of a language by CLDR."""

    script: str
    region: str


@functools.cache
def _likely(language: str, known: str) -> _Likely:
    table = get_global("likely_subtags")
    # The values are always language_Script_REGION.
    found = table.get(f"{language}_{known}") or table.get(language)
    return _Likely(*found.split("_")[1:3]) if found else _Likely("", "")


def _region(subtag: str) -> str:
    """Returns a region subtag in its preferred form (UK is GB, USA is US), or an empty string."""
    subtag = subtag.upper()
    replaced = get_global("territory_aliases").get(subtag)
    # A country that was divided has several successors; the largest comes first.
    if replaced:
        return cast(str, replaced[0])
    letters = len(subtag) == 2 and subtag.isalpha()
    return subtag if letters or (len(subtag) == 3 and subtag.isdecimal()) else ""


def _canonical_language(language: str) -> tuple[str, str, str]:
    """Returns (language, script, region) of a language subtag: `sh` is `sr` in `Latn`."""
    aliases = get_global("language_aliases")
    script = region = ""
    # "nob" is "nb" is "no": an alias may lead to another.
    for _ in range(3):
        replaced = _SYNONYMS.get(language) or aliases.get(language)
        if replaced is None:
            break
        language, *rest = replaced.split("_")
        for subtag in rest:
            if len(subtag) == 4:
                script = subtag
            else:
                region = subtag
    return language, script, region


def _is_variant(subtag: str) -> bool:
    # Gettext's modifiers are variants of any length, BCP 47's have 4 (with a digit first) to 8.
    return subtag.isalnum() and (
        5 <= len(subtag) <= 8 or (len(subtag) == 4 and subtag[0].isdigit())
    )


@functools.lru_cache(4096)
def parse(code: str) -> LanguageTag | None:
    """Returns the parts of a language code, or None if it is not a language code.

    Case, separators and the encoding of a locale (`de_DE.UTF-8`) do not matter. Whether the
    language exists is not checked; see `is_known`.

    Args:
        code: a BCP 47 tag, a locale name, or a three-letter code of ISO 639-2 or 639-3.

    Example:
        >>> str(parse("PT_br.UTF-8"))
        'pt-BR'
        >>> str(parse("sr_RS@latin"))
        'sr-Latn-RS'
    """
    name, _, modifier = code.strip().lower().partition("@")
    name = name.partition(".")[0]
    modifier = modifier.partition(".")[0]
    if not name.isascii() or not modifier.isascii():
        return None
    name = "-".join(_SEPARATORS.split(name))
    name = _SYNONYMS.get(name, name)
    first, *rest = name.split("-")
    if not (2 <= len(first) <= 3 and first.isalpha()):
        return None
    language, script, region = _canonical_language(first)
    variants: list[str] = []
    for place, subtag in enumerate(rest):
        if len(subtag) == 1 and subtag.isalnum():
            # An extension. "u" holds settings such as the calendar; the others change the text:
            # "t" marks transliterations and translations, "x" is private.
            if subtag != "u":
                variants.append("-".join(rest[place:]))
            break
        if subtag in _SCRIPT_WORDS:
            script = _SCRIPT_WORDS[subtag]
        elif len(subtag) == 4 and subtag.isalpha():
            script = subtag.title()
        elif found := _region(subtag):
            region = found
        elif place == 0 and len(subtag) == 3 and subtag.isalpha() and language in _MACROLANGUAGES:
            language, script, region = _canonical_language(subtag)
        elif _is_variant(subtag):
            variants.append(subtag)
        else:
            return None
    if modifier in _SCRIPT_WORDS:
        script = _SCRIPT_WORDS[modifier]
    elif len(modifier) == 4 and modifier.title() in _scripts():
        script = modifier.title()
    elif modifier:
        variants.append(modifier)
    named = tuple(sorted(set(variants) - _WITHOUT_MEANING))
    return LanguageTag(language, script, region, named)


@functools.cache
def _scripts() -> frozenset[str]:
    """Returns the scripts that some language is usually written in, for example `Latn`."""
    return frozenset(tag.split("_")[1] for tag in get_global("likely_subtags").values())


def is_known(code: str) -> bool:
    """Returns whether a code is well formed and names a language that CLDR knows.

    Example:
        >>> is_known("pt-BR"), is_known("ui"), is_known("french")
        (True, False, False)
    """
    tag = parse(code)
    return tag is not None and bool(_likely(tag.language, "").script)


def canonical(code: str) -> str | None:
    """Returns the preferred form of a code (`fr` for `FR`, `he` for `iw`), or None.

    The result is None if the text is not a language code.
    """
    tag = parse(code)
    return None if tag is None else str(tag)


def fit(wanted: str, found: str) -> Fit | None:
    """Returns how well a code of a corpus matches the wanted code, or None if it does not.

    Language, script and variants must be equal. A code without a script has the usual script of its
    language and region: `sr` does not match `sr-Latn`, and `zh` does not match `zh-TW`. A wanted
    code without a region matches any region; a wanted region matches the same region or none.
    Codes that cannot be parsed match if they differ only in case and separators.
    """
    ours, theirs = parse(wanted), parse(found)
    if ours is None or theirs is None:
        same = _SEPARATORS.sub("-", wanted).lower() == _SEPARATORS.sub("-", found).lower()
        return Fit.EXACT if same else None
    if (ours.language, ours.likely_script, ours.variants) != (
        theirs.language,
        theirs.likely_script,
        theirs.variants,
    ):
        return None
    if ours.region == theirs.region:
        return Fit.EXACT
    if ours.region and theirs.region:
        return None
    if _likely_region(ours) != _likely_region(theirs):
        return Fit.OTHER_REGION
    # For Chinese, the region names the script: zh-TW is zh-Hant.
    return Fit.EXACT if ours.language == "zh" else Fit.LIKELY_REGION


def _likely_region(tag: LanguageTag) -> str:
    return tag.region or _likely(tag.language, tag.likely_script).region


def fitting(wanted: str, available: Iterable[str]) -> list[str]:
    """Returns the codes that match the wanted code, the best first.

    Codes that match equally well keep their order. If the wanted code names a region and a code has
    the same region, codes without a region are omitted: they mean something else in that corpus.

    Example:
        >>> fitting("pt", ["pt-PT", "pt_BR", "gl"])
        ['pt_BR', 'pt-PT']
    """
    ranked = [(rank, code) for code in available if (rank := fit(wanted, code)) is not None]
    ranked.sort(key=lambda pair: pair[0])
    tag = parse(wanted)
    if tag is not None and tag.region and ranked and ranked[0][0] is Fit.EXACT:
        ranked = [pair for pair in ranked if pair[0] is Fit.EXACT]
    return [code for _, code in ranked]


def match(wanted: str, available: Iterable[str]) -> str | None:
    """Returns the code that matches the wanted code best, or None.

    Args:
        wanted: the wanted code.
        available: the codes of a corpus as written there; the first of equally good codes wins.

    Example:
        >>> match("zh", ["zh-TW", "zh-CN"])
        'zh-CN'
    """
    return next(iter(fitting(wanted, available)), None)


def near(wanted: str, available: Iterable[str]) -> list[str]:
    """Returns codes of the same language that do not match, for error messages.

    They differ in script, region or variant, like `zh-CN` for `zh-TW`.
    """
    tag = parse(wanted)
    if tag is None:
        return []
    others = ((code, parse(code)) for code in available if fit(wanted, code) is None)
    return [code for code, other in others if other and other.language == tag.language]
