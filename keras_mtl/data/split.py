"""Train, dev and test by a hash of the source sentence.

The split depends only on the sentence, not on the task, the corpus, or the order or number of
pairs. Therefore no sentence is in the training set of one task and in the dev or test set of
another, and no sentence moves to another set when a corpus grows.
"""

import hashlib
import unicodedata
from typing import Literal

import numpy as np

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

# Keys keep the two hashes independent: what picks a sentence for dev says nothing on anything else.
_SPLIT_KEY = b"keras_mtl.split"
_PAIR_KEY = b"keras_mtl.pair"

_RANGE = 2.0**64


def source_hash(source: str) -> int:
    """Returns the 64-bit hash that determines the split of a sentence.

    Sentences that differ only in case, white space or Unicode composition have the same hash, so
    that no test sentence is trained on in a slightly different spelling.

    Args:
        source: the source sentence.
    """
    text = " ".join(source.casefold().split())
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    digest = hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=8, key=_SPLIT_KEY
    ).digest()
    return int.from_bytes(digest, "little")


def pair_hash(source: str, target: str) -> int:
    """Returns a 64-bit hash of a pair, to find duplicates and to choose a part of a corpus."""
    text = f"{source}\0{target}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=_PAIR_KEY).digest(), "little")


def split_of_hash(value: int, dev_fraction: float, test_fraction: float) -> Split:
    """Returns the split of a hash from `source_hash`; see `split_of`."""
    position = value / _RANGE
    if position < test_fraction:
        return "test"
    # Dev is taken from the other end, so a larger dev part takes no sentences from test.
    if position >= 1.0 - dev_fraction:
        return "dev"
    return "train"


def splits_of(values: np.ndarray, dev_fraction: float, test_fraction: float) -> np.ndarray:
    """Returns the splits of hashes, as `split_of_hash`.

    Args:
        values: uint64[n], hashes from `source_hash`.
        dev_fraction: see `split_of`.
        test_fraction: see `split_of`.

    Returns:
        uint8[n], indices into `SPLITS`.
    """
    positions = values.astype(np.float64) / _RANGE
    splits = np.where(positions >= 1.0 - dev_fraction, np.uint8(1), np.uint8(0))
    return np.where(positions < test_fraction, np.uint8(2), splits)


def split_of(source: str, dev_fraction: float, test_fraction: float) -> Split:
    """Returns the split of a source sentence.

    Args:
        source: the source sentence.
        dev_fraction: share of sentences for dev, in [0, 1).
        test_fraction: share of sentences for test, in [0, 1).
    """
    return split_of_hash(source_hash(source), dev_fraction, test_fraction)
