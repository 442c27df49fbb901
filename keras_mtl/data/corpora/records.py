"""Pairs from records with named fields, which may hold other records: JSON, Parquet, Arrow.

A field inside of another is written with a dot: `translation.en`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from keras_mtl import errors
from keras_mtl.data.corpora import base
from keras_mtl.data.corpora.columns import ScoreRule

# Hugging Face's datasets keep the languages of a pair in a field of this name.
_TRANSLATION = "translation"

Path = tuple[str, ...]


class Fields:
    """The fields of a file of records.

    Args:
        reader: the reader, for messages and counts.
        source: the option `source_column`; None takes the language's code, or the code inside of
            the field `translation`.
        target: the option `target_column`.
        score: the option `score_column`, or None.
        min_score: the option `min_score`, or None.

    Raises:
        ConfigError: a name is not a string, or is used twice.
    """

    def __init__(
        self,
        reader: base.CorpusReader,
        source: str | None,
        target: str | None,
        score: str | None,
        min_score: float | None,
    ) -> None:
        self._reader = reader
        self._scores = ScoreRule(reader, score, min_score)
        self._wanted: list[tuple[str, tuple[str, ...]]] = []
        for option, given, code in (
            ("source_column", source, reader.source),
            ("target_column", target, reader.target),
            ("score_column", score, None),
        ):
            if given is None:
                if code is not None:
                    self._wanted.append((option, (code, f"{_TRANSLATION}.{code}")))
                continue
            name = base.require_text(reader.name, option, given, "the name of a field")
            if any(names == (name,) for _, names in self._wanted):
                raise base.option_error(reader.name, option, given, "another field than the others")
            self._wanted.append((option, (name,)))

    def names(self) -> tuple[str, ...]:
        """Returns the names of the fields of source and target, before a file is known."""
        return tuple(names[0] for _, names in self._wanted[:2])

    def find(self, name: str, known: Sequence[Path]) -> list[Path]:
        """Returns the fields in a file: source, target and, if there is a rule on it, the score.

        Args:
            name: the file.
            known: the fields that it has.

        Raises:
            DataError: the file does not have one of the fields.
        """
        by_name = {".".join(path): path for path in known}
        found = []
        for option, names in self._wanted:
            path = next((by_name[each] for each in names if each in by_name), None)
            if path is None:
                raise errors.DataError(
                    f"{name}: the records have no field {names[0]!r} "
                    f"({option} of reader {self._reader.name!r}){errors.nearest(names[0], by_name)}"
                )
            found.append(path)
        return found

    def pairs(
        self, name: str, records: Iterable[tuple[int, Sequence[Any] | base.BadLine]]
    ) -> Iterator[base.Pair | base.BadLine]:
        """Yields the pairs of a file, and counts its records.

        A text that is null is a missing translation; such pairs are dropped and counted.

        Args:
            name: the file.
            records: line and values of each record, in the order of `find`.
        """
        for line, values in records:
            self._reader.lines[name] += 1
            if isinstance(values, base.BadLine):
                yield values
                continue
            source, target = values[:2]
            if source is None or target is None:
                self._reader.dropped["no text"] += 1
                continue
            if not isinstance(source, str) or not isinstance(target, str):
                wrong = target if isinstance(source, str) else source
                option = self._wanted[isinstance(source, str)][0]
                yield base.BadLine(name, line, f"{option} holds {_kind(wrong)}, not text")
                continue
            kept = self._scores.keeps(values[2]) if len(values) > 2 else True
            if isinstance(kept, str):
                yield base.BadLine(name, line, kept)
            elif kept:
                yield base.Pair(source, target, line)


def _kind(value: Any) -> str:
    kinds = {dict: "a record", list: "a list", bool: "true or false", bytes: "bytes"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else "no text")


def field_paths(record: dict[str, Any]) -> list[Path]:
    """Returns the path of every field of a record, at any depth."""
    paths: list[Path] = []
    for key, value in record.items():
        paths.append((key,))
        if isinstance(value, dict):
            paths.extend((key, *rest) for rest in field_paths(value))
    return paths
