"""Writes files and directories that are either complete or absent, with errors that name the file.

Every file that must never be visible half written is written by `replacing_file`,
`replacing_directory` or `replace_file`. The new content has the name `.<name>.partial` until it is
complete and on the disk. If a process is killed, the partial file stays, and the next process that
writes the same path removes it. The partial file is also a lock: processes that write the same path
take turns.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Adds the path to an `OSError` that has no file name.

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

    Args:
        path: the file. An existing file is replaced, and missing directories are created.
        content: bytes, or text, which is encoded in UTF-8.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written; `filename` of the error is the path.
    """
    with replacing_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return Path(path)


@contextlib.contextmanager
def replacing_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a new file for writing, which replaces `path` when the block ends without an exception.

    If the block raises, the new file is removed and the old one stays.

    Args:
        path: the file. Missing directories are created.

    Yields:
        The new file: empty, binary, and seekable.

    Raises:
        OSError: the file cannot be written; `filename` of the error is the path.
    """
    path = Path(path)
    partial = _partial(path)
    with _named_as_the_user_knows_it(partial, path), naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(
            partial, lambda: os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        ):
            try:
                with open(partial, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    partial.unlink()
                raise
            sync(path.parent)


@contextlib.contextmanager
def replacing_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Creates a new directory, which replaces `path` when the block ends without an exception.

    If the block raises, the new directory is removed and the old one stays.

    Args:
        path: the directory. Missing parents are created.

    Yields:
        The new directory: empty, and in the same parent as `path`.

    Raises:
        OSError: the directory cannot be written; `filename` of the error is the path, or a file
            in it.
    """
    path = Path(path)
    partial = _partial(path)

    def make() -> int:
        partial.mkdir(exist_ok=True)
        return os.open(partial, os.O_RDONLY | os.O_CLOEXEC)

    with _named_as_the_user_knows_it(partial, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(partial, make):
            try:
                finish_replacing(path)
                for left in partial.iterdir():
                    remove(left)
                yield partial
                _sync_tree(partial)
                _swap(partial, path)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise


def finish_replacing(path: str | os.PathLike[str]) -> None:
    """Completes the replacement of a directory by a process that was killed.

    Between its two renames, the old directory has another name. It gets its own name back, or is
    removed if the new directory is in place.

    Args:
        path: the directory that was being replaced. No process may be replacing it now.
    """
    path = Path(path)
    old = _old(path)
    if os.path.lexists(old):
        if os.path.lexists(path):
            remove(old)
        else:
            os.rename(old, path)


def remove(path: str | os.PathLike[str]) -> None:
    """Removes a file, or a directory and its content, if it exists."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _swap(partial: Path, path: Path) -> None:
    """Renames a new directory to its final name, and removes the old directory of that name."""
    old = _old(path)
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, old)
    try:
        os.rename(partial, path)
    except OSError:
        if os.path.lexists(old):
            os.rename(old, path)
        raise
    sync(path.parent)
    remove(old)


def _sync_tree(directory: Path) -> None:
    for root, _, names in os.walk(directory):
        for name in names:
            sync(os.path.join(root, name))
        sync(root)


@contextlib.contextmanager
def _named_as_the_user_knows_it(partial: Path, path: Path) -> Iterator[None]:
    """Replaces a partial path that an `OSError` names with the final path."""
    try:
        yield
    except OSError as error:
        named = "" if error.filename is None else os.fsdecode(error.filename)
        if named == str(partial) or named.startswith(f"{partial}{os.sep}"):
            error.filename, error.filename2 = f"{path}{named[len(str(partial)) :]}", None
        raise


@contextlib.contextmanager
def _locked(path: Path, make: Callable[[], int]) -> Iterator[None]:
    """Creates a file or directory and locks it, so that only one process at a time writes it.

    Args:
        path: the file or directory.
        make: function that creates it if it is missing, opens it and returns the descriptor.
    """
    while True:
        descriptor = make()
        try:
            with contextlib.suppress(OSError):  # A file system without locks.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # The process that held the lock may have renamed or removed the locked file.
            try:
                present = os.path.samestat(os.fstat(descriptor), os.stat(path))
            except FileNotFoundError:
                present = False
            if present:
                yield
                return
        finally:
            os.close(descriptor)
