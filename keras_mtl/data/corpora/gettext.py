"""Pairs from gettext catalogues: the translated messages of the programs on a machine.

Every Debian machine has thousands of catalogues below /usr/share/locale, translated by people.
The msgid is English; between two other languages, two catalogues of the same program are joined by
(domain, context, msgid). Contexts are part of the key and not of the text. What happens to plural
forms, mnemonics, placeholders and help screens is written in docs/corpora.md.
"""

import fnmatch
import os
import pathlib
from collections.abc import Iterator, Sequence

from keras_mtl import errors
from keras_mtl.data.corpora import base, compiled_catalog, message_text, text_catalog

_SUFFIXES = (".mo", ".po")
_ENGLISH = "en"

# (domain, context, msgid, is it the plural) and the text.
_Key = tuple[str | None, str, bool]
_Text = tuple[_Key, str, int]


def _locales(option: str, value: str | Sequence[str] | None, code: str) -> tuple[str, ...]:
    if value is None:
        return (code.replace("-", "_"),)
    names = base.require_texts("gettext", option, value, "the name of a locale")
    if not names:
        raise base.option_error("gettext", option, value, "the name of a locale, or a list of them")
    return names


def find_catalogs(folder: str, locale: str) -> list[tuple[str, str]]:
    """Returns (domain, path) of one locale's catalogues below a folder, sorted.

    A catalogue belongs to the locale when a folder on its path has the locale's name
    (``fr/LC_MESSAGES/git.mo``, ``lang/fr.UTF-8/x.po``) or when its own name is the locale's
    (``po/fr.po``). The name must be the same: ``pt`` does not take ``pt_BR``, nor ``ca``
    ``ca@valencia``. The domain is the path with the locale replaced by ``*`` and without the
    suffix. A file that is reached by two names (links) is listed once.
    """
    found: list[tuple[str, str]] = []
    seen: set[str] = set()
    root = pathlib.Path(folder)
    for current, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if not name.endswith(_SUFFIXES):
                continue
            path = pathlib.Path(current, name)
            parts = list(path.relative_to(root).with_suffix("").parts)
            places = [i for i, part in enumerate(parts) if part.split(".")[0] == locale]
            # "fr/LC_MESSAGES/fr.mo": the outermost folder decides.
            if not places:
                continue
            parts[places[0]] = "*"
            real = str(path.resolve())
            if real not in seen and path.is_file():
                seen.add(real)
                found.append(("/".join(parts), str(path)))
    return sorted(found)


@base.register_reader
class GettextReader(base.CorpusReader):
    """Messages of every .mo and .po file below some folders.

    Args:
      source: code of the source language; ``en`` takes the msgid.
      target: code of the target language; ``en`` takes the msgid.
      folders: one folder or a list of them.
      source_locale: locale of the source's catalogues, or a list of which the first with a
        catalogue of a domain counts; the default is the code with ``_`` for ``-``.
      target_locale: the same for the target.
      exclude: patterns (``iso_3166*``) of file names, without suffix, that are left out.

    Raises:
      DataError: a folder does not exist or has no catalogue of the locale.
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
        self._folders = base.require_texts(self.name, "folders", folders, "a folder")
        self._exclude = base.require_texts(self.name, "exclude", exclude, "a pattern of names")
        if not self._folders:
            raise base.option_error("gettext", "folders", folders, "a folder or a list of folders")
        for folder in self._folders:
            if not os.path.isdir(folder):
                raise errors.DataError(f"{folder}: no such folder (folders of reader 'gettext')")
        if source == target:
            raise errors.ConfigError(
                f"reader 'gettext': source and target are both {source!r}; give two languages"
            )
        # An English catalogue is only read when it is asked for: the msgid is English already.
        self._source_files = (
            None
            if source == _ENGLISH and source_locale is None
            else self._find(_locales("source_locale", source_locale, source))
        )
        self._target_files = (
            None
            if target == _ENGLISH and target_locale is None
            else self._find(_locales("target_locale", target_locale, target))
        )
        if self._source_files is not None and self._target_files is not None:
            common = self._source_files.keys() & self._target_files.keys()
            self._source_files = {d: self._source_files[d] for d in sorted(common)}
            self._target_files = {d: self._target_files[d] for d in sorted(common)}
            if not common:
                raise errors.DataError(
                    f"{', '.join(self._folders)}: no program has catalogues both in {source!r} and "
                    f"in {target!r} (reader 'gettext')"
                )

    def _find(self, locales: Sequence[str]) -> dict[tuple[str, str], str]:
        files: dict[tuple[str, str], str] = {}
        for folder in self._folders:
            for locale in locales:
                for domain, path in find_catalogs(folder, locale):
                    stem = domain.rpartition("/")[2]
                    if not any(fnmatch.fnmatchcase(stem, pattern) for pattern in self._exclude):
                        files.setdefault((folder, domain), path)
        if not files:
            raise errors.DataError(
                f"{', '.join(self._folders)}: no .mo or .po file of locale {' or '.join(locales)} "
                "(reader 'gettext'); install the language's translations, or name the locale with "
                "source_locale or target_locale"
            )
        return dict(sorted(files.items()))

    def selection(self) -> tuple[str, ...]:
        return tuple(self.paths())

    def paths(self) -> list[str]:
        files = [self._source_files, self._target_files]
        return [path for found in files if found is not None for path in found.values()]

    def _texts(self, path: str, bad: list[base.BadLine]) -> Iterator[tuple[_Key, str, str, int]]:
        """Yields (key, English text, translation, line) of one catalogue."""
        read = compiled_catalog.read_mo if path.endswith(".mo") else text_catalog.read_po
        parsed = read(path)
        self.lines[path] += parsed.entries
        bad.extend(parsed.bad)
        for message in parsed.messages:
            # Programs take a message without its first form for untranslated, and so does msgfmt.
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
        """Yields pairs, catalogue by catalogue."""
        files = self._target_files if self._target_files is not None else self._source_files
        assert files is not None
        for domain, path in files.items():
            bad: list[base.BadLine] = []
            joined: dict[_Key, str] | None = None
            if self._source_files is not None and self._target_files is not None:
                source_path = self._source_files[domain]
                joined = {}
                for key, _, text, _ in self._texts(source_path, bad):
                    joined.setdefault(key, text)
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
            yield from bad
