"""The sections of a configuration about corpora and their cleaning."""

import dataclasses
from typing import Any

Options = dict[str, Any]
"""Free-form options of a registered component; the component itself checks their names."""


@dataclasses.dataclass(slots=True)
class CorpusConfig:
    """One corpus of a task.

    Attributes:
        reader: name of a registered reader: cldr, csv, gettext, jsonl, parallel, parquet, text,
            tfds, tmx, tsv, or the reader of a plug-in.
        options: the reader's options, for example `{source_file: a.en, target_file: a.fr}`.
    """

    reader: str = ""
    options: Options = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class CleaningConfig:
    """Rules that drop pairs. The pairs that each rule drops are counted and reported.

    Attributes:
        max_characters: longest source or target, in characters.
        max_length_ratio: largest ratio of the longer side to the shorter side. Lengths are in
            letters: a Chinese character counts as three, a Japanese or Korean syllable as two.
        ratio_slack: pairs whose sides differ by at most this number of letters pass the ratio rule.
        drop_identical: drop pairs whose source equals the target.
        drop_duplicates: keep only the first of equal (source, target) pairs of a task.
        max_bad_lines: share of unreadable lines above which a file is an error, in [0, 1].
    """

    max_characters: int = 1000
    max_length_ratio: float = 4.0
    ratio_slack: int = 15
    drop_identical: bool = True
    drop_duplicates: bool = True
    max_bad_lines: float = 0.01


@dataclasses.dataclass(slots=True)
class TaskCleaningConfig:
    """Cleaning rules of one task: the fields of `CleaningConfig`; None takes `data.cleaning`'s."""

    max_characters: int | None = None
    max_length_ratio: float | None = None
    ratio_slack: int | None = None
    drop_identical: bool | None = None
    drop_duplicates: bool | None = None
    max_bad_lines: float | None = None
