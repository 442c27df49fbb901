"""Writing files: complete or absent, and errors that name the file."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts a path into an ``OSError`` that names none.

    The operating system names the file when it cannot be opened, but not when a later write fails,
    as on a full disk.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def replace_file(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Writes a file that is complete or not there, also after a loss of power.

    The content is written under another name in the same directory, flushed to the disk and
    renamed. A partial file is removed when that fails.

    Args:
      path: the file; one that exists is replaced, and missing directories are made.
      content: bytes, or text that is encoded in UTF-8.

    Returns:
      The path.

    Raises:
      OSError: it cannot be written; ``filename`` is the path.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        with naming(path), open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    return path
