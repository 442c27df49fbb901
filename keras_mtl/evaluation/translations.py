"""The translations of an evaluation on disk, with sources and references.

There is one file `<task>.jsonl` for each task, with one JSON object for each sentence pair:

```json
{"source": "...", "hypothesis": "...", "reference": "..."}
```

The format is JSON lines because the text of a corpus may contain line breaks. Comparing runs
requires neither the model nor TensorFlow.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from keras_mtl.errors import DataError
from keras_mtl.files import replace_file

SUFFIX = ".jsonl"


class Translation(NamedTuple):
    """One sentence pair of a test set and its translation by a model."""

    source: str
    hypothesis: str
    reference: str


class Translated(Protocol):
    """The translations of a task: three lists of the same length."""

    @property
    def sources(self) -> Sequence[str]:
        """The sources."""

    @property
    def hypotheses(self) -> Sequence[str]:
        """The translations. Empty if nothing was translated."""

    @property
    def references(self) -> Sequence[str]:
        """The references."""


def pairs_digest(pairs: Iterable[tuple[str, str]]) -> str:
    """Returns a hash of (source, reference) pairs in their order, 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for source, reference in pairs:
        # JSON separates the two texts unambiguously.
        digest.update(json.dumps([source, reference]).encode())
    return digest.hexdigest()


def write_translations(
    directory: str | os.PathLike[str], results: Mapping[str, Translated]
) -> Path:
    """Writes a file for each task with translations. Each file is complete or absent.

    Args:
        directory: created if missing. Files of other tasks are kept.
        results: the result of each task.

    Returns:
        The directory.
    """
    directory = Path(directory)
    for task, result in results.items():
        if not result.hypotheses:
            continue
        directory.mkdir(parents=True, exist_ok=True)
        sources = result.sources or [""] * len(result.hypotheses)
        rows = zip(sources, result.hypotheses, result.references, strict=True)
        lines = [json.dumps(Translation(*row)._asdict(), ensure_ascii=False) for row in rows]
        replace_file(directory / f"{task}{SUFFIX}", "".join(f"{line}\n" for line in lines))
    return directory


def read_translations(path: str | os.PathLike[str]) -> list[Translation]:
    """Reads the file of one task.

    Raises:
        DataError: the file cannot be read, or a line is not a translation.
    """
    result = []
    try:
        # Not splitlines: text may contain line separators that JSON does not escape.
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}. Evaluate again") from error
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row = json.loads(line)
            fields = [row[name] for name in Translation._fields]
            if not all(isinstance(field, str) for field in fields):
                raise TypeError("a field is not text")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}:{number}: not a translation ({type(error).__name__}: {error}). Evaluate "
                "again to replace the file"
            ) from error
        result.append(Translation(*fields))
    return result
