"""What ``prepare`` is asked for: plain dataclasses, without TensorFlow."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl import errors
from keras_mtl.data import split
from keras_mtl.data.cleaning import CleaningSettings
from keras_mtl.data.store_format import MAX_LENGTH

# (name of the reader, its options)
Corpus = tuple[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class TaskSpec:
    """One direction of translation and where its pairs come from.

    Attributes:
      name: unique name; also the stem of its files.
      source: source language code.
      target: target language code.
      corpora: training pairs; dev and test are split off by a hash unless they are given.
      dev_corpora: pairs to validate on.
      test_corpora: pairs to test on.
      max_pairs: training pairs kept at most, chosen by a hash; None keeps all.
      cleaning: rules that drop a pair of this task; None takes those of ``PrepareSettings``.
    """

    name: str
    source: str
    target: str
    corpora: Sequence[Corpus]
    dev_corpora: Sequence[Corpus] = ()
    test_corpora: Sequence[Corpus] = ()
    max_pairs: int | None = None
    cleaning: CleaningSettings | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^\W_][\w.+@-]*", self.name):
            raise errors.ConfigError(
                f"task.pairs.name: {self.name!r} cannot be a part of a file's name; use letters, "
                "digits, '-', '_', '.', '+' and '@', a letter or digit first"
            )
        for side in ("source", "target"):
            language = getattr(self, side)
            if not language or re.search(r"[\s<>]", language):
                raise errors.ConfigError(
                    f"task.pairs: task {self.name!r}: {side} is {language!r}; it must be a "
                    "language code such as en, pt_BR or sr-Latn"
                )
        if not self.corpora:
            raise errors.ConfigError(
                f"task.pairs: task {self.name!r} has no corpora; list some there, or in "
                "task.data.corpora for all tasks"
            )
        if self.max_pairs is not None and self.max_pairs < 1:
            raise errors.ConfigError(
                f"task.pairs: task {self.name!r}: max_pairs is {self.max_pairs}; it must be >= 1"
            )


@dataclasses.dataclass(frozen=True)
class VocabularySettings:
    """The vocabulary; see :func:`keras_mtl.data.vocabulary.train_vocabulary`.

    Attributes:
      model_file: an existing SentencePiece model to use instead of training one.
    """

    size: int = 8000
    model_type: str = "unigram"
    temperature: float = 5.0
    max_sentences: int = 1_000_000
    character_coverage: float = 0.9995
    model_file: str = ""


@dataclasses.dataclass(frozen=True)
class PrepareSettings:
    """What is done to every task's pairs.

    Attributes:
      cleaning: rules that drop a pair.
      vocabulary: the subword vocabulary.
      dev_fraction: share of sources that goes to dev by hash, in [0, 1).
      test_fraction: share of sources that goes to test by hash, in [0, 1).
      dev_pairs: dev pairs that a task keeps at most.
      test_pairs: test pairs that a task keeps at most.
      max_length: longest source or target in tokens, language tag and end of sentence included.
      keep_train_text: whether training stores keep the text in addition to the tokens.
    """

    cleaning: CleaningSettings = dataclasses.field(default_factory=CleaningSettings)
    vocabulary: VocabularySettings = dataclasses.field(default_factory=VocabularySettings)
    dev_fraction: float = 0.01
    test_fraction: float = 0.01
    dev_pairs: int = 1000
    test_pairs: int = 1000
    max_length: int = 128
    keep_train_text: bool = False

    def __post_init__(self) -> None:
        split.check_fractions(self.dev_fraction, self.test_fraction)
        for field in ("dev_pairs", "test_pairs"):
            if getattr(self, field) < 0:
                raise errors.ConfigError(
                    f"task.data.{field}: {getattr(self, field)}; it must be >= 0"
                )
        if not 3 <= self.max_length <= MAX_LENGTH:
            raise errors.ConfigError(
                f"task.data.max_length: {self.max_length}; it must be in [3, {MAX_LENGTH}]: tag, "
                "end of sentence and at least one piece"
            )

    @property
    def max_pieces(self) -> int:
        """Longest side in the store: a batch adds a language tag and an end of sentence."""
        return self.max_length - 2


def check_tasks(tasks: Sequence[TaskSpec]) -> None:
    """Raises ConfigError unless there are tasks, and names that differ in more than case."""
    if not tasks:
        raise errors.ConfigError("task.pairs: there are no tasks; list at least one")
    seen: dict[str, str] = {}
    for task in tasks:
        key = task.name.casefold()
        if key in seen:
            raise errors.ConfigError(
                f"task.pairs: two tasks are named {seen[key]!r} and {task.name!r}; give "
                "them different names"
            )
        seen[key] = task.name
