"""Opens corpus files: decompresses them, finds members of zip archives, rejects other formats.

Compression is recognized by the first bytes, not by the name: gzip, bzip2, xz, Zstandard and zip,
also one inside another (a gzip file in a zip archive). Nothing is extracted to disk or held in
memory, so names and sizes inside an archive are harmless. A file is named by its path; a
member of a zip archive by `path:member`.
"""

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, cast

from keras_mtl import errors
from keras_mtl.data import languages
from keras_mtl.data.corpora import signatures

# Compressions inside of each other; real archives have two (a gzip file in a zip archive).
_MAX_LAYERS = 3
_BUFFER_BYTES = 1 << 17
# Compressed bytes that are handed to Zstandard at once. Its output is not bounded otherwise, and 4
# bytes may say 128 KiB: 64 MiB at most.
_ZSTD_BYTES = 2048
# What an xz file may ask for; `xz -9` asks for 64 MiB.
_XZ_MEMORY = 1 << 30
# Members that a message lists.
_SHOWN = 20

# First bytes of a zip archive: with files, and without any.
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")

# Exceptions of decompressors; errors of the disk have a number and are different.
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
# What the directory of a damaged zip archive leads to; ValueError includes names in no encoding.
_ZIP_DAMAGE = (*_DAMAGE, NotImplementedError, RuntimeError, ValueError, struct.error, OverflowError)

# Files of an archive that are not part of its corpus.
_ABOUT = frozenset(
    {"README", "LICENSE", "LICENCE", "COPYING", "NOTICE", "CHANGELOG", "CITATION", "AUTHORS"}
)
# Suffixes that may follow a language code in a name: corpus.en.txt.gz.
_AFTER_CODE = frozenset({"txt", "text", "tok", "raw", "plain", "gz", "bz2", "xz", "zst"})


class _DamageError(Exception):
    """Compressed data is wrong or incomplete."""


class _Streams:
    """Content of compressed streams that follow each other in one file.

    The standard library's files for bzip2 and xz take a damaged second stream for the end of the
    file, and the package zstandard takes a cut-off file for a whole one.

    Args:
        stream: the file.
        new: makes the decompressor of one stream.
        failure: what it raises.
        feed: compressed bytes that it gets at once.
    """

    def __init__(
        self,
        stream: BinaryIO,
        new: Callable[[], Any],
        failure: type[Exception],
        feed: int = _BUFFER_BYTES,
    ) -> None:
        self._stream = stream
        self._new = new
        self._failure = failure
        self._feed = feed
        self._decompressor = new()
        self._begun = False
        self._output = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Returns at most `size` bytes, none at the end; raises _DamageError."""
        while not self._output:
            data = self._input()
            if data is None:
                return b""
            try:
                self._output = memoryview(self._decompress(data))
            except self._failure as error:
                raise _DamageError(str(error)) from error
        result, self._output = bytes(self._output[:size]), self._output[size:]
        return result

    def _decompress(self, data: bytes) -> bytes:
        if hasattr(self._decompressor, "needs_input"):
            return cast(bytes, self._decompressor.decompress(data, _BUFFER_BYTES))
        return cast(bytes, self._decompressor.decompress(data))

    def _input(self) -> bytes | None:
        """The next bytes for the decompressor, none if it has some left; None at the end."""
        if self._decompressor.eof:
            data = self._decompressor.unused_data
            self._decompressor, self._begun = self._new(), False
        elif self._begun and not getattr(self._decompressor, "needs_input", True):
            return b""
        else:
            data = b""
        while not self._begun:
            data = data or self._stream.read(self._feed)
            if not data:
                return None
            data = data.lstrip(b"\0")  # xz allows zeros between streams.
            self._begun = bool(data)
        data = data or self._stream.read(self._feed)
        if not data:
            raise _DamageError("the end is missing")
        return data

    def close(self) -> None:
        self._stream.close()


class _Compression(NamedTuple):
    name: str
    matches: Callable[[bytes], bool]
    open: Callable[[BinaryIO, str], Any]


def _open_zstd(stream: BinaryIO, name: str) -> Any:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise errors.DataError(
            f"{name} is compressed with Zstandard, and reading it needs the package zstandard; "
            "install it with `pip install 'keras_mtl[zstd]'`, or decompress the file with `zstd -d`"
        ) from error
    return _Streams(
        stream,
        zstandard.ZstdDecompressor().decompressobj,
        zstandard.ZstdError,
        feed=_ZSTD_BYTES,
    )


def _new_xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


def _is_zstd(head: bytes) -> bool:
    # The second form is a skippable frame, with which pzstd begins.
    return head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5)


def _is_bzip2(head: bytes) -> bool:
    # "BZh" and a digit may begin a text; the next six bytes are those of π, or of √π at the end.
    return head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")


_COMPRESSIONS = (
    _Compression(
        "gzip",
        lambda head: head[:2] == b"\x1f\x8b",
        lambda stream, _: gzip.GzipFile(fileobj=stream),
    ),
    _Compression(
        "bzip2", _is_bzip2, lambda stream, _: _Streams(stream, bz2.BZ2Decompressor, OSError)
    ),
    _Compression(
        "xz",
        lambda head: head[:6] == b"\xfd7zXZ\0",
        lambda stream, _: _Streams(stream, _new_xz, lzma.LZMAError),
    ),
    _Compression("Zstandard", _is_zstd, _open_zstd),
)


class _Decompressed(io.RawIOBase):
    """Content of a compressed file; damage becomes a DataError that names the file.

    Args:
        inner: the decompressor, with `read(size)` and `close`.
        outer: the stream that it reads, closed with it.
        compression: its name.
        name: name of the file.
    """

    def __init__(self, inner: Any, outer: Any, compression: str, name: str) -> None:
        super().__init__()
        self._inner = inner
        self._outer = outer
        self._compression = compression
        self._name = name
        self._done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        try:
            data = self._inner.read(len(view))
        except (_DamageError, *_DAMAGE) as error:
            raise self._damaged(error) from error
        except OSError as error:  # gzip raises plain ones, and zip seeks to wrong places.
            if error.errno not in (None, errno.EINVAL):
                raise
            raise self._damaged(error) from error
        view[: len(data)] = data
        self._done += len(data)
        return len(data)

    def _damaged(self, error: Exception) -> errors.DataError:
        reason = str(error) or type(error).__name__
        return errors.DataError(
            f"{self._name}: damaged {self._compression} file, or cut off, after {self._done:,} "
            f"bytes of text ({reason}); copy or download it again"
        )

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
            self._outer.close()
        super().close()


def open_bytes(name: str, *, text: bool = False) -> BinaryIO:
    """Opens a corpus file or a member of a zip archive, and decompresses it.

    Args:
        name: a path, or `path:member`. A zip archive without a member must hold one file.
        text: whether only UTF-8 text is accepted; other encodings and markup are then rejected.

    Raises:
        DataError: the file is missing, damaged, or of a format that is not text; the message names
            the format and the remedy.
    """
    path, member = split_member(name)
    if member is None and is_zip(path):
        member = choose_member(path)
        name = f"{path}:{member}"
    stream: BinaryIO = _open_member(path, member) if member else open(path, "rb")  # noqa: SIM115
    try:
        return _decompress(stream, name, text)
    except BaseException:
        stream.close()
        raise


def _decompress(stream: BinaryIO, name: str, text: bool) -> BinaryIO:
    packed = ""
    for _ in range(_MAX_LAYERS + 1):
        head = cast(io.BufferedReader, stream).peek(signatures.HEAD_BYTES)
        head = head[: signatures.HEAD_BYTES]
        found = next((each for each in _COMPRESSIONS if each.matches(head)), None)
        if found is None:
            _refuse(head, name, packed, text)
            return stream
        packed = packed or f"{found.name}-compressed "
        raw = _Decompressed(found.open(stream, name), stream, found.name, name)
        stream = cast(BinaryIO, io.BufferedReader(raw, _BUFFER_BYTES))
    raise errors.DataError(f"{name} is compressed more than {_MAX_LAYERS} times; decompress it")


def _refuse(head: bytes, name: str, packed: str, text: bool) -> None:
    """Raises DataError if the content is not text that a reader accepts."""
    if head.startswith(_ZIP):
        inside = "a zip archive inside of another archive"
        what = _with_article(f"{packed}zip archive") if packed else inside
        raise errors.DataError(f"{name} is {what}; unpack it and name the files inside")
    found = signatures.recognize(head)
    if found is None or (found.is_text and not text):
        return
    article, _, noun = found.name.partition(" ")
    if packed:
        what = _with_article(f"{packed}{noun}") if article in ("a", "an") else packed + found.name
        remedy = f"decompress it, then {found.remedy}"
    else:
        what, remedy = found.name, found.remedy
    raise errors.DataError(f"{name} is {what}; {remedy}")


def _with_article(text: str) -> str:
    return f"an {text}" if text.startswith("xz") else f"a {text}"


# Zip archives.


def split_member(name: str) -> tuple[str, str | None]:
    """Splits `path:member`; the longest beginning that is a file is the path."""
    if not os.path.isfile(name):
        end = name.rfind(":")
        while end > 0:
            if os.path.isfile(name[:end]):
                return name[:end], name[end + 1 :]
            end = name.rfind(":", 0, end)
    return name, None


def is_zip(path: str) -> bool:
    """Whether a file begins like a zip archive."""
    with open(path, "rb") as handle:
        return handle.read(4) in _ZIP


@contextlib.contextmanager
def _open_zip(path: str) -> Iterator[zipfile.ZipFile]:
    """Opens an archive; damage to its directory, found now or later, becomes a DataError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except errors.DataError:
        raise
    except (*_ZIP_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise errors.DataError(
            f"{path}: damaged zip archive, or cut off, or of an unknown kind ({error}); copy or "
            "download it again, or unpack it"
        ) from error


def _open_member(path: str, member: str) -> BinaryIO:
    with _open_zip(path) as archive:
        try:
            info = archive.getinfo(member)
        except KeyError as error:
            names = [each.filename for each in archive.infolist() if not each.is_dir()]
            raise errors.DataError(
                f"{path}: the archive has no file {member!r}{errors.nearest(member, names)}"
            ) from error
        if info.flag_bits & 1:
            raise errors.DataError(f"{path}:{member} is encrypted; unpack it with its password")
        inner = archive.open(info)
        raw = _Decompressed(inner, inner, "zip", f"{path}:{member}")
        return cast(BinaryIO, io.BufferedReader(raw, _BUFFER_BYTES))


def choose_member(path: str, language: str | None = None, suffixes: Sequence[str] = ()) -> str:
    """Chooses the file of a zip archive that a reader means.

    If an archive has one file, it is used; READMEs, licenses and hidden files do not count.

    Args:
        path: the archive.
        language: code of the language, for an archive with one file per language. For `en` it
            takes `corpus.en-fr.en`; of several codes that fit, the best (see `languages.fit`).
        suffixes: endings of the reader's files, for an archive with others in it.

    Raises:
        DataError: the archive is damaged, is a document (an Excel workbook), or leaves a choice.
    """
    with _open_zip(path) as archive:
        names = [each.filename for each in archive.infolist() if not each.is_dir()]
        mimetype = b""
        if "mimetype" in names:
            with archive.open("mimetype") as handle:
                mimetype = handle.read(128)
    document = signatures.of_zip(names, mimetype)
    if document is not None:
        raise errors.DataError(f"{path} is {document.name}; {document.remedy}")
    files = [name for name in names if not _is_about(name)]
    if not files:
        raise errors.DataError(f"{path}: the zip archive holds no corpus file; check the file")
    fitting = files
    if len(files) > 1 and language is not None:
        fitting = _of_language(files, language)
    elif len(files) > 1:
        fitting = [name for name in files if _without_compression(name).endswith(tuple(suffixes))]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(files[:_SHOWN]) + (", ..." if len(files) > _SHOWN else "")
    wanted = f" of language {language!r}" if language is not None else ""
    found = f"{len(fitting)} files" if fitting else "no single file"
    raise errors.DataError(
        f"{path}: {found}{wanted} in the zip archive can be meant; it has {listed}; name one, for "
        f"example {path}:{(fitting or files)[0]}"
    )


def _is_about(name: str) -> bool:
    path = pathlib.PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return hidden or path.name.split(".")[0].upper() in _ABOUT


def _without_compression(name: str) -> str:
    stem, _, suffix = name.lower().rpartition(".")
    return stem if suffix in ("gz", "bz2", "xz", "zst") else name.lower()


def _of_language(names: Sequence[str], language: str) -> list[str]:
    """Returns the files whose names end in the code that fits a language best."""
    fits = {name: languages.fit(language, _code_in(name)) for name in names}
    best = min((fit for fit in fits.values() if fit is not None), default=None)
    return [name for name, fit in fits.items() if fit is not None and fit == best]


def _code_in(name: str) -> str:
    """Returns the last part of a file's name, in which a language code may stand."""
    parts = pathlib.PurePosixPath(name).name.lower().split(".")
    while len(parts) > 1 and parts[-1] in _AFTER_CODE:
        parts.pop()
    return parts[-1]
