"""The built-in corpus: short sentences from the CLDR data in Babel, without a download.

Dates, times, intervals, relative times, quantities, money, names of territories, languages,
currencies and cities, lists and remarks in parentheses, in any two locales that Babel knows.
`cldr_content` draws the content of a pair, and `cldr_render` renders it in a locale.
"""

import difflib
from collections.abc import Iterator
from typing import Any

import babel
from babel import Locale, UnknownLocaleError
from babel.localedata import locale_identifiers

from keras_mtl import errors
from keras_mtl.data.corpora import base, cldr_content, cldr_render

# Increased whenever the sentences change; part of the fingerprint.
_VERSION = 1

# A locale that can render less than this share of the first sentences has only numbers and codes.
_PROBE = 1000
_MIN_SHARE = 0.25


def parse_locale(option: str, code: str) -> Locale:
    """Returns the Babel locale of a language code such as `fr`, `pt-BR` or `sr_Latn`.

    Raises:
        ConfigError: Babel has no data for it.
    """
    try:
        return Locale.parse(code.replace("-", "_"))
    except (UnknownLocaleError, ValueError, TypeError) as error:
        raise errors.ConfigError(
            f"reader 'cldr': CLDR has no locale for {option} {code!r}{_suggestion(code)}"
        ) from error


def _suggestion(code: str) -> str:
    """Returns a remedy for an unknown code: that of the language with this name, or a similar one.

    It includes the name of the language, because a short code is similar to many others.
    """
    known = locale_identifiers()
    by_name = {name.lower(): each for each, name in Locale("en").languages.items()}
    found = by_name.get(code.lower())
    if found not in known:
        close = difflib.get_close_matches(code.replace("-", "_"), known, n=1, cutoff=0.5)
        if not close:
            return errors.nearest(code, known)
        found = close[0]
    return f"; did you mean {found!r} ({Locale.parse(found).english_name})?"


@base.register_reader
class CldrReader(base.CorpusReader):
    """Reads pairs generated from CLDR, a function of the seed and the number of the pair.

    The same seed and number have the same meaning in all languages. If one of the two locales has
    no data for a pair, the next number is used.

    Args:
        source: code of the source language, a locale of Babel.
        target: code of the target language, a locale of Babel.
        pairs: number of pairs, >= 1. Cleaning drops equal pairs: 4 % of 100,000, 12 %
            of 1,000,000.
        seed: seed of the pairs, any integer.

    Raises:
        ConfigError: Babel does not know a locale, or an option's value is wrong.
    """

    name = "cldr"

    def __init__(self, source: str, target: str, *, pairs: int, seed: int = 0) -> None:
        super().__init__(source, target)
        if isinstance(pairs, bool) or not isinstance(pairs, int) or pairs < 1:
            raise base.option_error("cldr", "pairs", pairs, "an integer >= 1")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise base.option_error("cldr", "seed", seed, "an integer")
        self._pairs = pairs
        self._seed = seed
        self._locales = (parse_locale("source", source), parse_locale("target", target))
        if self._locales[0] == self._locales[1]:
            raise errors.ConfigError(
                f"reader 'cldr': source {source!r} and target {target!r} are the same locale; "
                "give two"
            )

    def selection(self) -> tuple[str, ...]:
        return self.source, self.target

    def fingerprint(self) -> dict[str, Any]:
        return {**super().fingerprint(), "babel": babel.__version__, "version": _VERSION}

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        """Yields pairs; `line` is the number of the drawn content, from 1."""
        source, target = (cldr_render.Renderer(locale) for locale in self._locales)
        made = index = 0
        while made < self._pairs:
            if index == _PROBE and made < _PROBE * _MIN_SHARE:
                raise errors.DataError(
                    f"reader 'cldr': CLDR has too little for {self.source!r} or {self.target!r}: "
                    f"only {made} of {index} sentences exist in both; choose another "
                    "language or reader"
                )
            node = cldr_content.content(self._seed, index)
            index += 1
            try:
                pair = base.Pair(source.render(node), target.render(node), index)
            except cldr_render.MissingDataError:
                self.dropped["no data"] += 1
                continue
            made += 1
            yield pair
