"""A run whose directory is in a bucket: it trains in a local copy, which is copied back.

A bucket has no locks, no appending and no renaming of several files at once, on which checkpoints
and the event log depend. So the local copy is the directory of the run, and after each checkpoint
its changes go to the bucket: the index of a checkpoint after all files that it needs, and deletions
last. A run that is killed at any moment leaves a complete checkpoint there. The prepared data is
not a part of the copy: `keras_mtl.data.remote_store` has its own.
"""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from keras_mtl.errors import CheckpointError
from keras_mtl.files import replacing_directory
from keras_mtl.remote_files import RemoteDirectory, cache_directory, is_remote
from keras_mtl.run_files import DATA_DIRECTORY

# Names the process that trains in the remote directory. The last one that starts takes it over: one
# on a machine that was preempted cannot give it up.
_OWNER_FILE = "owner.txt"
# Pauses before an upload is tried again, in seconds; the next checkpoint tries it again as well.
_PAUSES = (1.0, 5.0, 20.0)


class RunMirror:
    """The local copy of a run's directory.

    Args:
        url: the directory of the run.
        log: function that receives lines for the user.
        worker: index of this process among the workers of the run; each has its own copy, because
            workers may share a machine or a home directory.

    Attributes:
        local: the local copy.
    """

    def __init__(self, url: str, log: Callable[[str], None], worker: int = 0):
        self._remote = RemoteDirectory(url)
        self.local = cache_directory(url)
        if worker:
            self.local = self.local.with_name(f"{self.local.name}.worker-{worker}")
        self._log = log
        self._token = ""
        self._copied: dict[str, tuple[int, int]] = {}

    def fetch(self) -> None:
        """Makes the local copy equal to the remote directory, which may be empty.

        Raises:
            CheckpointError: it cannot be read.
        """
        try:
            found = [name for name in self._remote.files() if _belongs(name)]
            with replacing_directory(self.local) as partial:
                for name in found:
                    self._remote.download(name, partial / name)
        except OSError as error:
            raise self._error("cannot be read", error) from error
        self._copied = self._present()
        if found:
            self._log(f"{self._remote.url}: copied {len(found)} files to {self.local}")

    def take_over(self) -> None:
        """Makes this process the one that writes the remote directory.

        Raises:
            CheckpointError: it cannot be written.
        """
        self._token = secrets.token_hex(8)
        try:
            self._remote.write(_OWNER_FILE, self._token.encode())
        except OSError as error:
            raise self._error("cannot be written", error) from error

    def upload(self) -> None:
        """Copies what has changed; if that fails, says so and leaves it to the next call.

        Raises:
            CheckpointError: another process has taken the directory over.
        """
        error = self._try_upload()
        if error:
            self._log(f"warning: {self._error('cannot be written', error)}")

    def finish(self) -> None:
        """Copies what has changed.

        Raises:
            CheckpointError: it cannot be written, or another process has taken it over.
        """
        error = self._try_upload()
        if error:
            raise self._error("cannot be written", error) from error

    def _try_upload(self) -> OSError | None:
        """Copies what has changed, in several attempts; returns why it could not."""
        for pause in _PAUSES:
            try:
                self._upload()
                return None
            except OSError:
                time.sleep(pause)
        try:
            self._upload()
        except OSError as error:
            return error
        return None

    def _upload(self) -> None:
        self._check_owner()
        present = self._present()
        changed = [name for name, mark in present.items() if self._copied.get(name) != mark]
        for name in sorted(changed, key=_rank):
            self._check_owner()
            self._remote.upload(self.local / name, name)
            self._copied[name] = present[name]
        gone = [name for name in self._copied if name not in present]
        for name in sorted(gone, key=_rank, reverse=True):
            self._check_owner()
            self._remote.remove(name)
            del self._copied[name]

    def _check_owner(self) -> None:
        """Raises CheckpointError if another process has taken the directory over."""
        if self._remote.read(_OWNER_FILE) != self._token.encode():
            raise CheckpointError(
                f"{self._remote.url}: another process has started to train in it; this one ends, "
                f"and what it has not copied is in {self.local}"
            )

    def _present(self) -> dict[str, tuple[int, int]]:
        """Returns size and time of the last change of each local file, by name."""
        present = {}
        for file in self.local.rglob("*"):
            name = file.relative_to(self.local).as_posix()
            if _belongs(name) and file.is_file():
                stat = file.stat()
                present[name] = (stat.st_size, stat.st_mtime_ns)
        return present

    def _error(self, problem: str, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"--model_dir {self._remote.url} {problem}: {error.strerror or error}; check the name, "
            f"your permissions and the network; the local copy is {self.local}"
        )


def _rank(name: str) -> tuple[bool, bool, str]:
    """Orders files so that each comes after those that it needs.

    An index needs its data, and the checkpoint of a run needs its snapshots and best weights.
    """
    index = name.endswith(".index")
    return index and "/" not in name, index, name


def _belongs(name: str) -> bool:
    """Whether a file is a part of the run, and not of its data or half written."""
    parts = name.split("/")
    return parts[0] not in (DATA_DIRECTORY, _OWNER_FILE) and not any(
        part.startswith((".", "partial-")) for part in parts
    )


@contextlib.contextmanager
def local_run_directory(
    model_dir: str | os.PathLike[str],
    writes: bool,
    log: Callable[[str], None],
    worker: int = 0,
) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Gives the local directory of a run, and what to call after each checkpoint.

    Args:
        model_dir: the run's directory: a path, or a URL, of which there is a copy in the block.
        writes: whether the run changes the directory.
        log: function that receives lines for the user.
        worker: index of this process among the workers of the run.

    Yields:
        The directory, and a function that copies changes to the URL.

    Raises:
        CheckpointError: the URL cannot be read or written, or another process of this machine
            trains in it.
    """
    if not is_remote(model_dir):
        yield Path(model_dir), lambda: None
        return
    mirror = RunMirror(os.fspath(model_dir), log, worker)
    with _locked(mirror.local, model_dir):
        if not writes:
            mirror.fetch()
            yield mirror.local, lambda: None
            return
        mirror.take_over()  # First, so that another process does not change what is fetched.
        mirror.fetch()
        try:
            yield mirror.local, mirror.upload
        except SystemExit:  # A signal: the run has saved.
            mirror.finish()
            raise
        mirror.finish()


@contextlib.contextmanager
def _locked(local: Path, model_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps other processes of this machine from using the local copy."""
    local.parent.mkdir(parents=True, exist_ok=True)
    with open(local.with_name(f".{local.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(
                f"another process on this machine is using {model_dir}; wait for it, or give "
                "another --model_dir"
            ) from error
        yield
