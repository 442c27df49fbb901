"""Sentence pairs of corpora that a run was not prepared with: test sets that came later."""

import collections
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import yaml

from keras_mtl import errors, yaml_loader
from keras_mtl.data import split
from keras_mtl.data.cleaning import Cleaner, CleaningSettings, HashSet
from keras_mtl.data.prepare_settings import Corpus, TaskSpec
from keras_mtl.data.prepare_text import given_settings, read_corpora
from keras_mtl.data.prepared import PreparedData
from keras_mtl.data.vocabulary import Vocabulary

# Training sentences that are decoded at a time.
_CHUNK = 4096


class Direction(Protocol):
    """A task: its name and its languages."""

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def target(self) -> str: ...


def load_corpora(path: str | os.PathLike[str]) -> list[Corpus]:
    """Reads a YAML file with a list of corpora, as ``task.data.corpora`` of a configuration has it.

    Raises:
      ConfigError: the file cannot be read, or is no such list; readers and options are checked when
        they are used.
    """
    try:
        with open(path, encoding="utf-8") as file:
            entries = yaml.load(file, yaml_loader.Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise errors.ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise errors.ConfigError(
            f"{path} holds {type(entries).__name__}; give a list of corpora, for example "
            "`- {reader: parallel, options: {source_file: a.en, target_file: a.fr}}`"
        )
    corpora: list[Corpus] = []
    for number, entry in enumerate(entries):
        fields = set(entry) if isinstance(entry, dict) else set()
        options = (entry.get("options") or {}) if fields else None
        if not {"reader"} <= fields <= {"reader", "options"} or not isinstance(options, dict):
            raise errors.ConfigError(
                f"{path}[{number}] is {entry!r}; a corpus has a reader and options"
            )
        corpora.append((str(entry["reader"]), options))
    return corpora


class GivenPairs:
    """Pairs in memory, with the part of `PreparedData` that an evaluation needs.

    Args:
      vocabulary: the model's.
      tasks: tasks in order.
      pairs: (source, target) of each pair, by task name; they keep their order.

    Attributes:
      vocabulary: the model's.
      tasks: the tasks.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        tasks: Sequence[Direction],
        pairs: Mapping[str, Sequence[tuple[str, str]]],
    ) -> None:
        self.vocabulary = vocabulary
        self.tasks = tasks
        self._readers = {name: _Reader(texts, vocabulary) for name, texts in pairs.items()}

    def reader(self, task: str, split_name: str) -> "_Reader":
        """Returns a task's pairs, whatever the split."""
        return self._readers[task]


class _Reader:
    """What an evaluation needs of a store."""

    has_text = True

    def __init__(self, texts: Sequence[tuple[str, str]], vocabulary: Vocabulary) -> None:
        self._texts = texts
        self._vocabulary = vocabulary

    def __len__(self) -> int:
        return len(self._texts)

    def text(self, index: int) -> tuple[str, str]:
        return self._texts[index]

    def gather(self, indices: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        chosen = [self._texts[int(index)] for index in indices]
        sides = zip(*chosen, strict=True) if chosen else ((), ())
        source, target = (
            [np.asarray(ids, np.int32) for ids in self._vocabulary.encode_batch(side)]
            for side in sides
        )
        return source, target


def read_given_pairs(
    tasks: Iterable[Direction],
    corpora: Sequence[Corpus],
    vocabulary: Vocabulary,
    log: Callable[[str], None],
    unseen_by: PreparedData | None = None,
) -> GivenPairs:
    """Reads the pairs of some tasks from corpora.

    Pairs are cleaned as given test sets are: text is normalized, empty and undecodable pairs are
    dropped, all others stay, in their order.

    Args:
      tasks: the tasks.
      corpora: readers with their options; each gets every task's languages.
      vocabulary: the model's.
      log: receives a line for each task, and for each bad line that is reported.
      unseen_by: leaves out pairs whose source is among this data's training sentences of that
        language, of any task and on either side; differences in case and white space do not count.

    Raises:
      DataError: a corpus is missing or damaged, or a task has no pair.
      ConfigError: a reader or option is unknown.
    """
    tasks = list(tasks)
    seen: dict[str, HashSet] = {}
    if unseen_by is not None:
        for language in {task.source for task in tasks}:
            seen[language] = _training_hashes(unseen_by, language)
    pairs = {}
    for task in tasks:
        cleaner = Cleaner(given_settings(CleaningSettings()))
        counts: collections.Counter[str] = collections.Counter()
        spec = TaskSpec(task.name, task.source, task.target, corpora=corpora)
        texts = list(read_corpora(spec, corpora, cleaner, counts, log))
        read = len(texts)
        if task.source in seen:
            texts = _unseen(texts, seen[task.source], vocabulary)
        if not texts:
            names = ", ".join(name for name, _ in corpora)
            raise errors.DataError(
                f"task {task.name!r}: {read:,} pairs in its corpora ({names}), none of them to "
                "score; check files and languages, or leave the task out with --tasks"
            )
        left_out = f", {read - len(texts):,} more are in training data" if seen else ""
        log(f"{task.name}: {len(texts):,} pairs{left_out}")
        pairs[task.name] = texts
    return GivenPairs(vocabulary, tasks, pairs)


def _training_hashes(prepared: PreparedData, language: str) -> HashSet:
    """Hashes of the sentences of a language that any task is trained on."""
    hashes = HashSet()
    for task in prepared.tasks:
        reader = prepared.reader(task.name, "train")
        for side, spoken in enumerate((task.source, task.target)):
            if spoken != language:
                continue
            for begin in range(0, len(reader), _CHUNK):
                end = min(begin + _CHUNK, len(reader))
                rows = reader.gather(np.arange(begin, end))[side]
                for text in prepared.vocabulary.decode_batch(rows):
                    hashes.add(split.source_hash(text))
    return hashes


def _unseen(
    texts: list[tuple[str, str]], seen: HashSet, vocabulary: Vocabulary
) -> list[tuple[str, str]]:
    # As training sentences come out of their tokens.
    sources = vocabulary.decode_batch(vocabulary.encode_batch([source for source, _ in texts]))
    hashes = map(split.source_hash, sources)
    return [pair for pair, value in zip(texts, hashes, strict=True) if value not in seen]
