"""Writing files: complete or absent, and errors that name the file."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Adds the path to an ``OSError`` that has no file name.

    The operating system names the file if it cannot be opened, but not if a later write fails, for
    example because the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def sync(path: str | os.PathLike[str]) -> None:
    """Waits until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Writes a file that is either complete or absent, even after a power failure.

    The content is written to another name in the same directory, flushed to the disk and renamed.
    If that fails, the partial file is removed.

    Args:
      path: the file. An existing file is replaced, and missing directories are created.
      content: bytes, or text, which is encoded in UTF-8.

    Returns:
      The path.

    Raises:
      OSError: the file cannot be written; ``filename`` of the error is the path.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        if isinstance(error, OSError):
            # The user knows this name, not that of the partial file.
            error.filename, error.filename2 = os.fspath(path), None
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    return path
