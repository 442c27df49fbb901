"""Files in a bucket or another place with a URL, such as `gs://bucket/runs/my`.

TensorFlow's file systems read and write them, so what is known depends on its build: `gs` always,
and `ram`, which lives in the process and stands for the others in tests. TensorFlow is imported
when one is touched. Such a place has no locks, no renaming at once and no memory map; whoever needs
those works on a local copy, in `cache_directory`.
"""

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from keras_mtl.files import replacing_file

_CHUNK_BYTES = 16 << 20


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL and not the path of a local file."""
    return "://" in os.fspath(path)


def join(url: str, name: str) -> str:
    """Returns the URL of a file or directory in a remote directory."""
    return f"{url.rstrip('/')}/{name}"


def cache_root() -> Path:
    """Returns the directory that KERAS_MTL_CACHE names, or ours in that of the user's caches."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    root = os.environ.get("KERAS_MTL_CACHE") or os.path.join(home, "keras_mtl")
    return Path(root).expanduser()


def cache_directory(url: str) -> Path:
    """Returns the place of the local copy of a remote directory, in `cache_root()`.

    It may not exist.
    """
    url = url.rstrip("/")
    digest = hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
    name = re.sub(r"[^A-Za-z0-9._-]", "_", url.rpartition("/")[2])
    return cache_root() / f"{name}-{digest}"


def matching(pattern: str) -> list[str]:
    """Returns the URLs of the files that match a URL with `*`, `?` or `[...]`, sorted.

    Raises:
        OSError: the place cannot be reached, or TensorFlow does not know it.
    """
    import tensorflow as tf

    with _system_errors(pattern):
        if tf.io.gfile.exists(pattern):  # A name may have a bracket in it.
            return [pattern]
        return sorted(tf.io.gfile.glob(pattern))


class RemoteDirectory:
    """A directory with a URL. Names of its files are relative to it.

    Every method raises OSError if the place cannot be reached, is not known to TensorFlow, or
    refuses; `filename` of the error is the URL.

    Args:
        url: the URL of the directory, which need not exist.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def files(self) -> dict[str, int]:
        """Returns the size in bytes of each file below the directory, by name."""
        import tensorflow as tf

        found = {}
        with _system_errors(self.url):
            tf.io.gfile.exists(self.url)  # Listing an unknown file system finds nothing.
            for directory, _, names in tf.io.gfile.walk(self.url):
                for name in filter(None, names):
                    path = join(directory, name)
                    size = tf.io.gfile.stat(path).length
                    found[path.removeprefix(f"{self.url}/")] = size
        return found

    def size_and_time(self, name: str) -> tuple[int, int]:
        """Returns the size of a file in bytes and its last change in nanoseconds since 1970."""
        import tensorflow as tf

        url = join(self.url, name)
        with _system_errors(url):
            stat = tf.io.gfile.stat(url)
        return stat.length, stat.mtime_nsec

    def read(self, name: str) -> bytes | None:
        """Returns the content of a small file, or None if it is not there."""
        import tensorflow as tf

        url = join(self.url, name)
        with _system_errors(url):
            try:
                with tf.io.gfile.GFile(url, "rb") as file:
                    return file.read()
            except tf.errors.NotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Writes a small file."""
        import tensorflow as tf

        url = join(self.url, name)
        with _system_errors(url):
            tf.io.gfile.makedirs(url.rpartition("/")[0])
            with tf.io.gfile.GFile(url, "wb") as file:
                file.write(content)

    def download(self, name: str, path: Path) -> None:
        """Copies a file to a local path, which is complete or absent."""
        import tensorflow as tf

        url = join(self.url, name)
        with (
            replacing_file(path) as copy,
            _system_errors(url),
            tf.io.gfile.GFile(url, "rb") as file,
        ):
            while chunk := file.read(_CHUNK_BYTES):
                copy.write(chunk)

    def upload(self, path: Path, name: str) -> None:
        """Copies a local file into the directory, over one of the same name."""
        import tensorflow as tf

        url = join(self.url, name)
        with _system_errors(url):
            tf.io.gfile.makedirs(url.rpartition("/")[0])
            tf.io.gfile.copy(os.fspath(path), url, overwrite=True)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        import tensorflow as tf

        url = join(self.url, name)
        with _system_errors(url), contextlib.suppress(tf.errors.NotFoundError):
            tf.io.gfile.remove(url)


@contextlib.contextmanager
def _system_errors(url: str) -> Iterator[None]:
    """Makes an OSError of an error of TensorFlow's file systems."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        if isinstance(error, tf.errors.UnimplementedError):
            known = ", ".join(sorted(filter(None, tf.io.gfile.get_registered_schemes())))
            message = f"TensorFlow has no file system for this URL; it has {known}"
            raise OSError(errno.EPROTONOSUPPORT, message, url) from error
        raise OSError(errno.EIO, error.message.splitlines()[0][:300], url) from error
