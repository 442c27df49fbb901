"""Corpus readers, one in each file; importing the package registers them without TensorFlow."""

from keras_mtl.data.corpora import (
    cldr,
    csv_files,
    gettext,
    jsonl,
    parallel,
    parquet,
    text,
    tfds,
    tmx,
    tsv,
)
from keras_mtl.data.corpora.base import (
    BadLine,
    CorpusReader,
    Pair,
    PairStream,
    available_readers,
    create_reader,
    path_options,
    read_pairs,
    register_reader,
)

__all__ = [
    "BadLine",
    "CorpusReader",
    "Pair",
    "PairStream",
    "available_readers",
    "cldr",
    "create_reader",
    "csv_files",
    "gettext",
    "jsonl",
    "parallel",
    "parquet",
    "path_options",
    "read_pairs",
    "register_reader",
    "text",
    "tfds",
    "tmx",
    "tsv",
]
