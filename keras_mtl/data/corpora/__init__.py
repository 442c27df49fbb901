"""Corpus readers, one a file; importing this package registers them all and loads no TensorFlow."""

from keras_mtl.data.corpora import gettext
from keras_mtl.data.corpora.base import (
    BadLine,
    CorpusReader,
    Pair,
    PairStream,
    available_readers,
    create_reader,
    read_pairs,
    register_reader,
)

__all__ = [
    "BadLine",
    "CorpusReader",
    "Pair",
    "PairStream",
    "available_readers",
    "create_reader",
    "gettext",
    "read_pairs",
    "register_reader",
]
