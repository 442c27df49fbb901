"""The files that an option of a reader names: a path, a pattern, or a list of these."""

import collections
import glob
import os
import pathlib
from collections.abc import Sequence

from keras_mtl import errors
from keras_mtl.data.corpora import base, opening, remote
from keras_mtl.remote_files import is_remote

_RIGHT = "the path of a file, a pattern such as data/*.tsv, or a list of these"


def require_files(
    reader: str,
    option: str,
    value: object,
    *,
    language: str | None = None,
    suffixes: Sequence[str] = (),
    text: bool = True,
) -> list[str]:
    """Returns the files of an option in the form that `open_bytes` takes, after checking each.

    Args:
        reader: name of the reader.
        option: name of the option.
        value: a path or URL, `archive.zip:member`, a pattern (`*`, `?`, `[...]`, `**`), or a
            list of these. The files of a pattern are sorted by name. Of a zip archive without a
            member, the one that fits is taken.
        language: selects the member of a zip archive with a file for each language.
        suffixes: select the member of a zip archive with other files.
        text: whether only UTF-8 text is accepted; see `open_bytes`.

    Raises:
        ConfigError: the value is none of these.
        DataError: a file is missing, cannot be read or is named twice, a pattern matches no file,
            or a file has another format.
    """
    names = []
    for path in expand(reader, option, value):
        require_file(reader, option, path)
        archive, member = opening.split_member(path)
        if member is None and opening.is_zip(archive):
            path = f"{archive}:{opening.choose_member(archive, language, suffixes)}"
        opening.open_bytes(path, text=text).close()
        names.append(path)
    return names


def expand(reader: str, option: str, value: object) -> list[str]:
    """Returns the paths of an option, patterns replaced by the files that they match.

    Raises:
        ConfigError: the value is not a path, a pattern or a list of these.
        DataError: a pattern matches no file, or a path is named twice.
    """
    given = value if isinstance(value, list | tuple) else [value]
    if not given:
        raise base.option_error(reader, option, value, _RIGHT)
    paths: list[str] = []
    for entry in given:
        if not isinstance(entry, str | os.PathLike) or not os.fspath(entry):
            raise base.option_error(reader, option, entry, _RIGHT)
        name = str(os.fspath(entry))
        if is_remote(name):
            paths.extend(remote.local_copies(reader, option, name))
            continue
        # A file name may contain a bracket.
        if not glob.has_magic(name) or os.path.lexists(opening.split_member(name)[0]):
            paths.append(name)
            continue
        found = sorted(glob.glob(name, recursive=True))
        if not found:
            raise errors.DataError(
                f"{name}: no file matches this pattern ({option} of reader {reader!r})"
            )
        paths.extend(found)
    twice, times = collections.Counter(paths).most_common(1)[0]
    if times > 1:
        raise errors.DataError(
            f"{twice}: named twice in {option} of reader {reader!r}; name each file once"
        )
    return paths


def require_file(reader: str, option: str, name: str) -> None:
    """Raises DataError unless a path, or that of `path:member`, is a file that can be read."""
    path = pathlib.Path(opening.split_member(name)[0])
    if not path.is_file():
        kind = "is a directory, not a file" if path.is_dir() else "does not exist"
        raise errors.DataError(f"{name}: {kind} ({option} of reader {reader!r})")
    if not os.access(path, os.R_OK):
        raise errors.DataError(f"{name}: no permission to read ({option} of reader {reader!r})")


def file_paths(names: Sequence[str]) -> list[str]:
    """Returns the paths of files; an archive with several members is listed once."""
    return list(dict.fromkeys(opening.split_member(name)[0] for name in names))
