"""Finds the catalogs of a language below a directory, by the names of directories and files.

A path may contain the language in five ways. The first that applies counts:

* `fr/LC_MESSAGES/app.mo`: the directory above a locale category;
* `fr/app.po`, `lang/fr.UTF-8/app.po`: any directory;
* `po/fr.po`: the whole name of the file;
* `po/fr.core.po`, `messages.fr.po`: its first or last part between full stops;
* `app-fr.po`, `app_pt_BR.po`: its end after a hyphen or underscore.

Words such as `no`, `id` and `app` are codes of languages too. So in `app-fr.po`, `app-fr`
is not the language `app` of France, and if a path names several languages, the field Language of
the catalog's header decides. The same field must not contradict the last two ways.
"""

import codecs
import os
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from babel.core import get_global

from keras_mtl.data import languages

_SUFFIXES = (".mo", ".po")
# Directories of the C library's locale categories; only the directory above them is a locale.
_CATEGORY = re.compile(r"LC_[A-Z]+$")
_SEPARATOR = re.compile(r"[-_]")
_HEADER_LANGUAGE = re.compile(rb"(?:^|[\n\"])Language: *([A-Za-z][\w@.-]*)")


class CatalogFile(NamedTuple):
    """A catalog.

    Attributes:
        domain: the path without suffix, with `*` instead of the language. Catalogs of the same
            domain are translations of each other.
        path: the file.
        locale: the language in the path.
    """

    domain: str
    path: str
    locale: str


class _Name(NamedTuple):
    """A language in a path, and whether the path certainly means it."""

    locale: str
    domain: str
    is_certain: bool


def _locale(name: str, wanted: str, *, is_doubtful: bool = True) -> str | None:
    """Returns a name as a locale without encoding, or None if it is not a locale.

    Args:
        name: name of a directory, or part of a file name.
        wanted: code of the wanted language.
        is_doubtful: whether three letters are a language only if it is the wanted one, because
            almost all of them are the code of some language.
    """
    locale, dot, encoding = name.partition(".")
    if dot:
        try:
            codecs.lookup(encoding)
        except (LookupError, ValueError):
            return None
    if languages.fit(wanted, locale) is not None or _language(locale) == _language(wanted):
        return locale
    is_short = len(_SEPARATOR.split(locale)[0]) == 2
    return locale if (is_short or not is_doubtful) and languages.is_known(locale) else None


def _is_usual(locale: str, wanted: str) -> bool:
    """Whether a language is spoken in its region: `my-fr` is not the Burmese of France."""
    tag = languages.parse(locale)
    if tag is None or not tag.region or tag.region.isdecimal():
        return True
    if languages.fit(wanted, locale) is languages.Fit.EXACT:
        return True
    spoken = get_global("territory_languages").get(tag.region, {})
    codes = (tag.language, "nb" if tag.language == "no" else tag.language)
    return any(code.split("_")[0] in codes for code in spoken)


def _names(parts: tuple[str, ...], wanted: str) -> Iterator[_Name]:
    """Yields the languages that a path names; the first one counts.

    Args:
        parts: names of the directories, and of the file without its suffix.
        wanted: code of the wanted language.
    """

    def named(place: int, locale: str, text: str, is_certain: bool) -> _Name:
        return _Name(locale, "/".join((*parts[:place], text, *parts[place + 1 :])), is_certain)

    last = len(parts) - 1
    for place in range(1, last):
        locale = _locale(parts[place - 1], wanted, is_doubtful=False)
        if _CATEGORY.match(parts[place]) and locale is not None:
            yield named(place - 1, locale, "*", True)
            return
    for place, part in enumerate(parts):
        locale = _locale(part, wanted)
        if locale is not None and (place < last or _is_usual(locale, wanted)):
            yield named(place, locale, "*", True)
    *before, piece = parts[last].split(".")
    if before:
        locale = _locale(piece, wanted)
        if locale is not None and _is_usual(locale, wanted):
            yield named(last, locale, ".".join((*before, "*")), False)
        locale = _locale(before[0], wanted)
        if locale is not None and _is_usual(locale, wanted):
            yield named(last, locale, ".".join(("*", *before[1:], piece)), False)
    # The longest end that is a locale: "pt_BR" and not "BR" of "app_pt_BR".
    for match in _SEPARATOR.finditer(parts[last]):
        locale = _locale(parts[last][match.end() :], wanted)
        if locale is not None and _is_usual(locale, wanted):
            yield named(last, locale, parts[last][: match.end()] + "*", False)
            return


def _header_language(path: pathlib.Path) -> str | None:
    """Returns the language that a catalog's header names, in its canonical form, or None."""
    try:
        match = _HEADER_LANGUAGE.search(path.read_bytes())
    except OSError:
        return None
    locale = match.group(1).decode("ascii", "replace") if match else ""
    return _language(locale) if languages.is_known(locale) else None


def _language(locale: str) -> str:
    tag = languages.parse(locale)
    return tag.language if tag else locale


def _choose(path: pathlib.Path, names: list[_Name], wanted: str) -> _Name | None:
    """Returns the locale in a path if the path means the wanted language, else None."""
    language = _language(wanted)
    matching = [name for name in names if _language(name.locale) == language]
    if not matching:
        return None
    others = {_language(name.locale) for name in names} - {language}
    if not others and matching[0].is_certain:
        return matching[0]
    header = _header_language(path)
    if header == language:
        return matching[0]
    # The header of a template names English.
    if header in others or (header not in (None, "en") and not matching[0].is_certain):
        return None
    return matching[0] if matching[0] is names[0] else None


def find_catalogs(directory: str, wanted: str) -> list[CatalogFile]:
    """Returns the catalogs of a language in all its regions and scripts, sorted.

    A file that is reached by two names (links) is listed once.

    Args:
        directory: directory to search.
        wanted: code of the language; script and region are ignored.
    """
    found: list[CatalogFile] = []
    seen: set[str] = set()
    root = pathlib.Path(directory)
    for current, directories, files in os.walk(directory):
        directories.sort()
        for file in sorted(files):
            if not file.endswith(_SUFFIXES):
                continue
            path = pathlib.Path(current, file)
            parts = (*pathlib.Path(current).relative_to(root).parts, file[:-3])
            name = _choose(path, list(_names(parts, wanted)), wanted)
            if name is None:
                continue
            real = str(path.resolve())
            if real not in seen and path.is_file():
                seen.add(real)
                found.append(CatalogFile(name.domain, str(path), name.locale))
    return sorted(found)
