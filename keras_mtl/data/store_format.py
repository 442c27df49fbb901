"""The file format of the prepared store, shared by its reader and its writer.

A store is one little-endian file that holds the encoded pairs of one task and split::

    preamble   8 bytes magic, uint32 version, uint32 header size, 16 bytes BLAKE2b of the header
    header     JSON: vocabulary, counts, histogram of lengths, place and checksum of each section
    offsets    int64[2n + 1]: tokens of source i are tokens[offsets[2i]:offsets[2i + 1]],
               those of target i are tokens[offsets[2i + 1]:offsets[2i + 2]]
    tokens     uint16 or uint32: pieces only, no language tag, no end of sentence
    text_offsets, text: the same for the UTF-8 of both sides, when the store keeps text

Pairs are sorted by (longest side, source length, hash of the pair), so that the pairs of a length
bucket are one contiguous range, known from the histogram.
"""

import dataclasses
import hashlib
import json
import os
import struct
from typing import Any

from keras_mtl import errors

MAGIC = b"KMTLSTOR"
VERSION = 1
PREAMBLE = struct.Struct("<8sII16s")
# Sections start at multiples of a cache line.
ALIGNMENT = 64
# Lengths are 16 bits of the sort key.
MAX_LENGTH = 65_535
# A larger header is damaged: the histogram of 65,536 lengths needs 1.2 MB.
MAX_HEADER_SIZE = 4 << 20

SECTIONS = ("offsets", "tokens", "text_offsets", "text")
REMEDY = "prepare the data again with `keras-mtl prepare --overwrite`"


@dataclasses.dataclass(frozen=True)
class Section:
    """Place of a section: byte offset, byte size and BLAKE2b-128 (hexadecimal) of its bytes."""

    offset: int
    size: int
    checksum: str


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of a store.

    Attributes:
        vocabulary_hash: `Vocabulary.hash` of the vocabulary that encoded it.
        vocabulary_size: number of ids; all ids are below it.
        count: number of pairs, n.
        source_tokens: number of tokens of all sources.
        target_tokens: number of tokens of all targets.
        token_bytes: bytes per token, 2 or 4.
        length_histogram: `length_histogram[L]` pairs have a longest side of L tokens.
        sections: {name: section}; without text sections if the store has no text.
    """

    vocabulary_hash: str
    vocabulary_size: int
    count: int
    source_tokens: int
    target_tokens: int
    token_bytes: int
    length_histogram: list[int]
    sections: dict[str, Section]

    @property
    def end(self) -> int:
        """Required size of the file in bytes."""
        return max(section.offset + section.size for section in self.sections.values())


def new_checksum() -> Any:
    """Returns a new hash object for the checksum of a section."""
    return hashlib.blake2b(digest_size=16)


def align(position: int) -> int:
    """Returns the first multiple of `ALIGNMENT` from `position` on."""
    return -(-position // ALIGNMENT) * ALIGNMENT


def pack(header: Header) -> bytes:
    """Returns preamble and header; their size does not depend on the checksums."""
    payload = json.dumps(dataclasses.asdict(header), sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.blake2b(payload, digest_size=16).digest()
    return PREAMBLE.pack(MAGIC, VERSION, len(payload), digest) + payload


def lay_out(
    *,
    vocabulary_hash: str,
    vocabulary_size: int,
    count: int,
    source_tokens: int,
    target_tokens: int,
    token_bytes: int,
    length_histogram: list[int],
    text_bytes: int | None,
) -> Header:
    """Returns the header of a store with known counts and blank checksums.

    The place of the first section and the size of the header depend on each other. Sections
    therefore start at an estimate that has room for any number of digits.
    """
    blank = "0" * 32
    sizes = {
        "offsets": 8 * (2 * count + 1),
        "tokens": token_bytes * (source_tokens + target_tokens),
    }
    if text_bytes is not None:
        sizes["text_offsets"] = 8 * (2 * count + 1)
        sizes["text"] = text_bytes

    def header(sections: dict[str, Section]) -> Header:
        return Header(
            vocabulary_hash,
            vocabulary_size,
            count,
            source_tokens,
            target_tokens,
            token_bytes,
            length_histogram,
            sections,
        )

    widest = 10**18
    draft = header({name: Section(widest, size, blank) for name, size in sizes.items()})
    position = align(len(pack(draft)))
    sections = {}
    for name in SECTIONS:
        if name in sizes:
            sections[name] = Section(position, sizes[name], blank)
            position = align(position + sizes[name])
    return header(sections)


def read_header(path: str) -> Header:
    """Reads and checks preamble and header of a store.

    Args:
        path: the store's file.

    Returns:
        The header; its sections lie inside the file.

    Raises:
        DataError: the file is missing or damaged, is not a store, or has another version.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            preamble = file.read(PREAMBLE.size)
            if len(preamble) < PREAMBLE.size:
                raise errors.DataError(
                    f"{path}: damaged store: {size} bytes are fewer than a header has; {REMEDY}"
                )
            magic, version, header_size, digest = PREAMBLE.unpack(preamble)
            if magic != MAGIC:
                raise errors.DataError(
                    f"{path}: not a store: it begins with {magic!r}, a store with {MAGIC!r}; "
                    f"{REMEDY}"
                )
            if version != VERSION:
                raise errors.DataError(
                    f"{path}: store version {version}, this release reads version {VERSION}; "
                    f"{REMEDY}"
                )
            payload = file.read(header_size) if header_size <= MAX_HEADER_SIZE else b""
    except OSError as error:
        raise errors.DataError(
            f"{path}: cannot read the store: {error.strerror}; {REMEDY}"
        ) from error
    if hashlib.blake2b(payload, digest_size=16).digest() != digest:
        raise errors.DataError(f"{path}: damaged store: field header: wrong checksum; {REMEDY}")
    values = json.loads(payload)
    values["sections"] = {name: Section(**place) for name, place in values["sections"].items()}
    header = Header(**values)
    if size != header.end:
        raise errors.DataError(
            f"{path}: damaged store: {size} bytes, its header says {header.end}; {REMEDY}"
        )
    return header
