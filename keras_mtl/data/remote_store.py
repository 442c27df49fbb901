"""Prepared data in a bucket: used through a local copy, which can be mapped into memory.

The manifest says what the directory holds. It is written last and removed first, so a directory
with a manifest is complete. A copy with the same manifest is used again.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from keras_mtl import errors, files
from keras_mtl.configuration.schema import DataConfig, PairConfig
from keras_mtl.data.prepare import PreparedData, load_prepared, open_prepared, prepare
from keras_mtl.remote_files import RemoteDirectory, cache_directory
from keras_mtl.run_files import MANIFEST_FILE, SOURCE_VOCABULARY_FILE, VOCABULARY_FILE


def prepare_remote(
    pairs: Sequence[PairConfig],
    url: str,
    data: DataConfig,
    *,
    overwrite: bool = False,
    processes: int | None = None,
    log: Callable[[str], None] = print,
) -> PreparedData:
    """Prepares data in a remote directory, unless it is prepared already; returns a local copy.

    Args:
        pairs: the tasks; at least one, names unique.
        url: URL of the directory.
        data: corpora of tasks that name none, cleaning, split, vocabulary.
        overwrite: replace data that was prepared from other inputs or settings.
        processes: see `prepare`.
        log: receives lines of text.

    Returns:
        The prepared data, opened, in `cache_directory` of the URL.

    Raises:
        ConfigError: tasks, a reader's options or the vocabulary's size are wrong.
        DataError: see `prepare`; the place cannot be read or written; it holds something else, or
            data that was prepared from other inputs or settings.
    """
    remote, local = RemoteDirectory(url), cache_directory(url)
    with _data_errors(remote.url):
        manifest = remote.read(MANIFEST_FILE)
        if manifest is not None and not overwrite:
            _fetch(remote, manifest, local, log)
            return open_prepared(pairs, local, data, place=remote.url, log=log)
        _check_replaceable(remote)
        prepared = prepare(pairs, local, data, overwrite=True, processes=processes, log=log)
        log(f"{remote.url}: copying the prepared data there")
        _store(remote, local)
    return prepared


def fetch_prepared(url: str, log: Callable[[str], None] = print) -> Path:
    """Copies prepared data from a remote directory, unless there is a copy of it; returns its path.

    Raises:
        DataError: the place cannot be read, or holds no prepared data.
    """
    remote, local = RemoteDirectory(url), cache_directory(url)
    with _data_errors(remote.url):
        manifest = remote.read(MANIFEST_FILE)
        if manifest is None:
            raise errors.DataError(
                f"{remote.url}: no prepared data is there ({MANIFEST_FILE} is missing); prepare it "
                "with `keras-mtl prepare`"
            )
        _fetch(remote, manifest, local, log)
    return local


@contextlib.contextmanager
def _data_errors(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.DataError(
            f"task.data.data_dir: {error.filename or url}: {error.strerror or error}; check the "
            "name, your permissions and the network, or give a local directory"
        ) from error


def _fetch(
    remote: RemoteDirectory, manifest: bytes, local: Path, log: Callable[[str], None]
) -> None:
    """Makes the local copy, unless there is one with the same manifest."""
    known = local / MANIFEST_FILE
    if known.is_file() and known.read_bytes() == manifest:
        return
    found = remote.files()
    log(f"{remote.url}: copying {sum(found.values()):,} bytes to {local}")
    with files.replacing_directory(local) as partial:
        for name in found:
            if _is_ours(name):
                remote.download(name, partial / name)
        if (partial / MANIFEST_FILE).read_bytes() != manifest:
            raise errors.DataError(
                f"{remote.url}: it was prepared again while it was copied; start again"
            )
        # Every store has checksums of its content.
        load_prepared(partial).verify()


def _store(remote: RemoteDirectory, local: Path) -> None:
    """Copies prepared data into the remote directory, the manifest last."""
    names = sorted(name for name in os.listdir(local) if _is_ours(name))
    remote.remove(MANIFEST_FILE)
    for name in names:
        if name != MANIFEST_FILE:
            remote.upload(local / name, name)
    for name in remote.files():
        if name not in names and _is_ours(name):
            remote.remove(name)
    remote.upload(local / MANIFEST_FILE, MANIFEST_FILE)


def _check_replaceable(remote: RemoteDirectory) -> None:
    """Refuses a remote directory that holds something else than prepared data."""
    other = next((name for name in remote.files() if not _is_ours(name)), None)
    if other is not None:
        raise errors.DataError(
            f"{remote.url}: holds {other}, which is not prepared data; choose another "
            "task.data.data_dir, or delete it"
        )


def _is_ours(name: str) -> bool:
    files = (MANIFEST_FILE, VOCABULARY_FILE, SOURCE_VOCABULARY_FILE)
    return name in files or (name.endswith(".store") and "/" not in name)
