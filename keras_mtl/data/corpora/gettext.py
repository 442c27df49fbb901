"""Pairs from gettext catalogs: the translated messages of the programs on a machine.

Every Debian machine has thousands of catalogs below /usr/share/locale, translated by people.
The msgid is English; between two other languages, two catalogs of the same program are joined by
(domain, context, msgid). Contexts are part of the key and not of the text. What happens to plural
forms, mnemonics, placeholders and help screens is written in docs/reference/corpora.md.
"""

import collections
import fnmatch
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from keras_mtl import errors
from keras_mtl.data import languages
from keras_mtl.data.corpora import base, compiled_catalog, message_text, text_catalog
from keras_mtl.data.corpora.catalog_files import CatalogFile, find_catalogs

# The msgid is in the English of the United States by convention.
_ENGLISH = ("en", "en-US")

# Most catalogs are small, so processes take several at once.
_DOMAINS_PER_PART = 32

# (domain, context, msgid, is it the plural) and the text.
_Key = tuple[str | None, str, bool]
_Text = tuple[_Key, str, int]
# The catalogs of each (directory, domain).
_Files = dict[tuple[str, str], list[str]]


def _locales(option: str, value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = base.require_texts("gettext", option, value, "the name of a locale")
    if not names:
        raise base.option_error("gettext", option, value, "the name of a locale, or a list of them")
    return names


def _best(code: str, files: Iterable[CatalogFile]) -> tuple[list[str], str]:
    """Returns the locales that are read for a language, and why others are not chosen.

    Args:
        code: code of the language.
        files: its catalogs in all regions and scripts.
    """
    found = dict.fromkeys(file.locale for file in files)
    ranks = {locale: languages.fit(code, locale) for locale in found}
    best = min((rank for rank in ranks.values() if rank is not None), default=None)
    if best is None:
        return [], "none of them fits"
    chosen = [locale for locale, rank in ranks.items() if rank is best]
    several = len({languages.canonical(locale) for locale in chosen}) > 1
    if best is languages.Fit.OTHER_REGION and several:
        return [], "they are for several regions"
    return chosen, ""


def _first_named(names: Sequence[str], files: Sequence[CatalogFile]) -> list[str]:
    """Returns the paths of the first locale that has a catalog, however its name is spelled."""
    for name in names:
        paths = [f.path for f in files if languages.fit(name, f.locale) is languages.Fit.EXACT]
        if paths:
            return paths
    return []


@base.register_reader
class GettextReader(base.CorpusReader):
    """Reads the messages of all .mo and .po files below some directories.

    Args:
        source: code of the source language; `en` and `en-US` take the msgid.
        target: code of the target language; `en` and `en-US` take the msgid.
        folders: one directory or a list of them.
        source_locale: locale of the source's catalogs, or a list of which the first with a
            catalog of a domain counts; by default those that fit the language best.
        target_locale: the same for the target.
        exclude: patterns of file names without suffix, such as `iso_3166*`, that are skipped.

    Raises:
        DataError: a directory does not exist or has no catalog of the language.
    """

    name = "gettext"
    path_options = ("folders",)

    def __init__(
        self,
        source: str,
        target: str,
        *,
        folders: str | Sequence[str],
        source_locale: str | Sequence[str] | None = None,
        target_locale: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
    ) -> None:
        super().__init__(source, target)
        self._folders = base.require_texts(self.name, "folders", folders, "a directory")
        self._exclude = base.require_texts(self.name, "exclude", exclude, "a pattern of names")
        if not self._folders:
            raise base.option_error(
                "gettext", "folders", folders, "a directory, or a list of directories"
            )
        for directory in self._folders:
            if not os.path.isdir(directory):
                raise errors.DataError(
                    f"{directory}: no such directory (folders of reader 'gettext')"
                )
        sides = [languages.canonical(code) or code for code in (source, target)]
        # An English catalog is read only on request, because the msgid is English already.
        by_msgid = [
            side in _ENGLISH and locale is None
            for side, locale in zip(sides, (source_locale, target_locale), strict=True)
        ]
        if sides[0] == sides[1] or all(by_msgid):
            raise errors.ConfigError(
                f"reader 'gettext': source {source!r} and target {target!r} are the same language; "
                "give two languages"
            )
        self._source_files = (
            None if by_msgid[0] else self._find(source, "source_locale", source_locale)
        )
        self._target_files = (
            None if by_msgid[1] else self._find(target, "target_locale", target_locale)
        )
        if self._source_files is not None and self._target_files is not None:
            common = self._source_files.keys() & self._target_files.keys()
            self._source_files = {d: self._source_files[d] for d in sorted(common)}
            self._target_files = {d: self._target_files[d] for d in sorted(common)}
            if not common:
                raise errors.DataError(
                    f"{', '.join(self._folders)}: no program has catalogs both in {source!r} and "
                    f"in {target!r} (reader 'gettext')"
                )

    def _find(self, code: str, option: str, value: str | Sequence[str] | None) -> _Files:
        """Returns the catalogs of a language, by directory and domain, in sorted order."""
        names = _locales(option, value)
        files: dict[tuple[str, str], list[CatalogFile]] = collections.defaultdict(list)
        for directory in self._folders:
            for wanted in dict.fromkeys(names or (code,)):
                for file in find_catalogs(directory, wanted):
                    if not self._is_excluded(file) and file not in files[directory, file.domain]:
                        files[directory, file.domain].append(file)
        every = [file for found in files.values() for file in found]
        locales, reason = _best(code, every) if names is None else ([], "none of them is named")
        chosen: _Files = {}
        for key, found in sorted(files.items()):
            if names is None:
                paths = [file.path for file in found if file.locale in locales]
            else:
                paths = _first_named(names, found)
            if paths:
                chosen[key] = paths
        read = {path for paths in chosen.values() for path in paths}
        left = collections.Counter(file.locale for file in every if file.path not in read)
        listed = ", ".join(f"{locale} ({count})" for locale, count in sorted(left.items()))
        if not chosen:
            hint = f"there are catalogs of {listed}, but {reason}; " if left else ""
            raise errors.DataError(
                f"{', '.join(self._folders)}: no .mo or .po file of {' or '.join(names or [code])} "
                f"(reader 'gettext'); {hint}install the language's translations, or name the "
                f"locale with {option}"
            )
        others = {languages.canonical(locale) for locale in locales} - {languages.canonical(code)}
        if names is None and (left or others):
            also = f"; catalogs of {listed} are not read" if left else ""
            self.notes.append(
                f"reader 'gettext' reads catalogs of {', '.join(locales)} for {code!r}{also}; "
                f"{option} chooses others"
            )
        return chosen

    def _is_excluded(self, file: CatalogFile) -> bool:
        stems = (file.domain.rpartition("/")[2], pathlib.Path(file.path).name[:-3])
        return any(
            fnmatch.fnmatchcase(stem, pattern) for pattern in self._exclude for stem in stems
        )

    def selection(self) -> tuple[str, ...]:
        return tuple(self.paths())

    def paths(self) -> list[str]:
        files = [self._source_files, self._target_files]
        return [
            path
            for found in files
            if found is not None
            for same_domain in found.values()
            for path in same_domain
        ]

    def parts(self) -> list[Self]:
        sides = {"_source_files": self._source_files, "_target_files": self._target_files}
        given = {name: files for name, files in sides.items() if files is not None}
        domains = list(next(iter(given.values())))
        groups = [
            domains[begin : begin + _DOMAINS_PER_PART]
            for begin in range(0, len(domains), _DOMAINS_PER_PART)
        ]
        return self._divided(
            [
                {name: {domain: files[domain] for domain in group} for name, files in given.items()}
                for group in groups
            ]
        )

    def _texts(self, path: str, bad: list[base.BadLine]) -> Iterator[tuple[_Key, str, str, int]]:
        """Yields (key, English text, translation, line) of one catalog."""
        read = compiled_catalog.read_mo if path.endswith(".mo") else text_catalog.read_po
        parsed = read(path)
        self.lines[path] += parsed.entries
        bad.extend(parsed.bad)
        for message in parsed.messages:
            # Programs and msgfmt treat a message without its first form as untranslated.
            forms = message.translations
            if not forms[0]:
                forms = [""] * len(forms)
            if message.plural is None:
                key = (message.context, message.identifier, False)
                yield key, message.identifier, forms[0], message.line
                continue
            if parsed.singular < len(forms):
                key = (message.context, message.identifier, False)
                yield key, message.identifier, forms[parsed.singular], message.line
            if parsed.many < len(forms):
                key = (message.context, message.identifier, True)
                yield key, message.plural, forms[parsed.many], message.line

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        """Yields pairs, domain by domain."""
        files = self._target_files if self._target_files is not None else self._source_files
        assert files is not None
        for domain, paths in files.items():
            bad: list[base.BadLine] = []
            joined: dict[_Key, str] | None = None
            if self._source_files is not None and self._target_files is not None:
                joined = {}
                for source_path in self._source_files[domain]:
                    for key, _, text, _ in self._texts(source_path, bad):
                        joined.setdefault(key, text)
            for path in paths:
                yield from self._pairs(path, joined, bad)
            yield from bad

    def _pairs(
        self, path: str, joined: dict[_Key, str] | None, bad: list[base.BadLine]
    ) -> Iterator[base.Pair]:
        """Yields the pairs of a catalog.

        Args:
            path: the catalog.
            joined: texts in the source language, or None if one side is the msgid.
            bad: receives what cannot be read.
        """
        for key, english, text, line in self._texts(path, bad):
            if joined is not None:
                source, target = joined.get(key, ""), text
            elif self._target_files is not None:
                source, target = english, text
            else:
                source, target = text, english
            cleaned = message_text.clean_pair(english, source, target)
            if isinstance(cleaned, str):
                self.dropped[cleaned] += 1
            else:
                yield base.Pair(*cleaned, line)
