"""Corpus files with a URL are read from local copies of the same size and time."""

import os

from keras_mtl import errors
from keras_mtl.remote_files import RemoteDirectory, cache_directory, matching


def local_copies(reader: str, option: str, name: str) -> list[str]:
    """Copies the files of a URL, unless there are copies of them; returns the local paths.

    Args:
        reader: name of the reader.
        option: name of the option.
        name: a URL, `archive.zip:member` with a URL, or a pattern (`*`, `?`, `[...]`).

    Returns:
        The paths of the copies, or `path:member`, in the order of the names.

    Raises:
        DataError: a file does not exist or cannot be copied, or the pattern matches none.
    """
    scheme_end = name.index("://") + len("://")
    end = len(name)
    try:
        # As for local files, the longest beginning that is a file is the archive.
        found = matching(name)
        while not found and (end := name.rfind(":", scheme_end, end)) >= 0:
            found = matching(name[:end])
        paths = [_copy(file) for file in found]
    except OSError as error:
        raise errors.DataError(
            f"{error.filename or name}: {error.strerror or error} ({option} of reader {reader!r})"
        ) from error
    if not paths:
        raise errors.DataError(f"{name}: no such file ({option} of reader {reader!r})")
    return [path + name[end:] for path in paths]


def _copy(url: str) -> str:
    directory, _, name = url.rpartition("/")
    remote, path = RemoteDirectory(directory), cache_directory(directory) / name
    size, time = remote.size_and_time(name)
    if path.is_file():
        stat = path.stat()
        if (stat.st_size, stat.st_mtime_ns) == (size, time):
            return os.fspath(path)
    remote.download(name, path)
    os.utime(path, ns=(time, time))
    return os.fspath(path)
