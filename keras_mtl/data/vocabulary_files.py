"""The files of a vocabulary in a directory of prepared data or of a run."""

import os
from pathlib import Path

from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.files import remove, replace_file
from keras_mtl.run_files import SOURCE_VOCABULARY_FILE, VOCABULARY_FILE


def read_vocabulary(directory: str | os.PathLike[str]) -> Vocabulary:
    """Reads the vocabulary of a directory, with that of the sources if they have their own.

    Raises:
        DataError: a file is missing or damaged.
    """
    path = Path(directory)
    own = path / SOURCE_VOCABULARY_FILE
    source = Vocabulary.load(own) if own.exists() else None
    return Vocabulary.load(path / VOCABULARY_FILE, source)


def write_vocabulary(directory: str | os.PathLike[str], vocabulary: Vocabulary) -> None:
    """Writes the files of a vocabulary into a directory."""
    path = Path(directory)
    own = path / SOURCE_VOCABULARY_FILE
    if vocabulary.has_source:
        replace_file(own, vocabulary.source.model_bytes)
    elif own.exists():
        remove(os.fspath(own))
    replace_file(path / VOCABULARY_FILE, vocabulary.model_bytes)
