"""Evaluation sets: pairs of corpora that are not part of the prepared data, such as new tests."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import yaml

from keras_mtl import errors
from keras_mtl.configuration import paths as config_paths
from keras_mtl.configuration import reading
from keras_mtl.configuration.schema import CleaningConfig
from keras_mtl.data import split
from keras_mtl.data.cleaning import Cleaner, HashSet
from keras_mtl.data.corpora import CorpusReader, create_reader, read_pairs
from keras_mtl.data.language_check import SAMPLE_SIZE, language_warning, spread
from keras_mtl.data.prepare_settings import given_settings
from keras_mtl.data.prepared import PreparedData
from keras_mtl.data.vocabulary import Vocabulary

# Number of training sentences that are decoded at once.
_CHUNK = 4096


class Direction(Protocol):
    """A task: its name and its languages."""

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def target(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class EvaluationCorpus:
    """A corpus of an evaluation set.

    Attributes:
        reader: name of the reader.
        options: options of the reader.
        tasks: names of the tasks that it belongs to; None for every task that is scored.
    """

    reader: str
    options: Mapping[str, Any]
    tasks: tuple[str, ...] | None = None


def load_corpora(path: str | os.PathLike[str]) -> list[EvaluationCorpus]:
    """Reads a YAML file with a list of corpora, as `task.data.corpora` of a configuration has it.

    An entry may also have `tasks`, a list of the names of the tasks that it belongs to.
    Paths are relative to the file.

    Raises:
        ConfigError: the file cannot be read or is not such a list. Readers and options are checked
            when they are used.
    """
    try:
        with open(path, encoding="utf-8") as file:
            entries = yaml.load(file, reading.Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise errors.ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise errors.ConfigError(
            f"{path} holds {type(entries).__name__}; give a list of corpora, for example "
            "`- {reader: parallel, options: {source_file: a.en, target_file: a.fr}}`"
        )
    directory = config_paths.base_directory(os.fspath(path))
    for field in config_paths.corpora_fields(entries):
        try:
            config_paths.check_moved(field.parent[field.key], directory)
        except errors.ConfigError as error:
            raise errors.ConfigError(f"{path}[{field.place[0]}]: {field.key} = {error}") from error
        field.parent[field.key] = config_paths.absolute(field.parent[field.key], directory)
    corpora: list[EvaluationCorpus] = []
    for number, entry in enumerate(entries):
        fields = set(entry) if isinstance(entry, dict) else set()
        options = (entry.get("options") or {}) if fields else None
        known = {"reader"} <= fields <= {"reader", "options", "tasks"}
        if not known or not isinstance(options, dict):
            raise errors.ConfigError(
                f"{path}[{number}] is {entry!r}; a corpus has a reader and options, and may have "
                "tasks"
            )
        tasks = entry.get("tasks")
        if tasks is not None and not (
            isinstance(tasks, list) and tasks and all(isinstance(name, str) for name in tasks)
        ):
            raise errors.ConfigError(
                f"{path}[{number}].tasks is {tasks!r}; give a list of names of tasks, for example "
                "[en-fr]"
            )
        names = None if tasks is None else tuple(tasks)
        corpora.append(EvaluationCorpus(str(entry["reader"]), options, names))
    return corpora


class EvaluationPair(NamedTuple):
    """A pair and its place, `path:line`."""

    source: str
    target: str
    place: str


class EvaluationSet:
    """Pairs in memory, with the members of `PreparedData` that an evaluation needs.

    Args:
        vocabulary: vocabulary of the model.
        tasks: the tasks, in order.
        pairs: {task name: pairs}, in order.

    Attributes:
        vocabulary: vocabulary of the model.
        tasks: the tasks.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        tasks: Sequence[Direction],
        pairs: Mapping[str, Sequence[EvaluationPair]],
    ) -> None:
        self.vocabulary = vocabulary
        self.tasks = tasks
        self._readers = {name: _Reader(texts, vocabulary) for name, texts in pairs.items()}

    def reader(self, task: str, split_name: str) -> "_Reader":
        """Returns the pairs of a task for any split."""
        return self._readers[task]


class _Reader:
    """The members of a store that an evaluation needs."""

    has_text = True

    def __init__(self, pairs: Sequence[EvaluationPair], vocabulary: Vocabulary) -> None:
        self._pairs = pairs
        self._vocabulary = vocabulary

    def __len__(self) -> int:
        return len(self._pairs)

    def text(self, index: int) -> tuple[str, str]:
        return self._pairs[index][:2]

    def place(self, index: int) -> str:
        """Returns the place of a pair, `path:line`."""
        return self._pairs[index].place

    def gather(self, indices: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        chosen = [self.text(int(index)) for index in indices]
        sides = zip(*chosen, strict=True) if chosen else ((), ())
        source, target = (
            [np.asarray(ids, np.int32) for ids in vocabulary.encode_batch(side)]
            for vocabulary, side in zip(self._vocabulary.sides, sides, strict=True)
        )
        return source, target


def read_evaluation_set(
    tasks: Iterable[Direction],
    corpora: Sequence[EvaluationCorpus],
    vocabulary: Vocabulary,
    log: Callable[[str], None],
    unseen_by: PreparedData | None = None,
) -> EvaluationSet:
    """Reads the pairs of some tasks from corpora.

    Pairs are cleaned like given test sets: text is normalized, empty and undecodable pairs are
    dropped, and all others stay in their order.

    Args:
        tasks: the tasks.
        corpora: the corpora; tasks without a corpus are omitted.
        vocabulary: vocabulary of the model.
        log: function that is called with a line for each task and each reported bad line.
        unseen_by: if given, pairs are dropped if their source is a training sentence of this data
            in the same language, of any task and on either side. Case and white space are
            ignored.

    Raises:
        DataError: a corpus is missing or damaged, or a task has no pair.
        ConfigError: a reader or option is unknown, or a corpus would be read for tasks of
            languages that it does not hold.
    """
    chosen = _by_task(list(tasks), corpora)
    seen: dict[str, HashSet] = {}
    if unseen_by is not None:
        for language in {task.source for task, _ in chosen}:
            seen[language] = _training_hashes(unseen_by, language)
    pairs: dict[str, list[EvaluationPair]] = {}
    for task, own in chosen:
        found = [pair for reader in own for pair in _read(task, reader, log)]
        read = len(found)
        if task.source in seen:
            found = _unseen(found, seen[task.source], vocabulary)
        if not found:
            names = ", ".join(reader.name for reader in own)
            raise errors.DataError(
                f"task {task.name!r}: {read:,} pairs in its corpora ({names}), none of them to "
                "score; check files and languages, or exclude the task with --tasks"
            )
        left_out = f", {read - len(found):,} more are in training data" if seen else ""
        log(f"{task.name}: {len(found):,} pairs of {_described(own)}{left_out}")
        pairs[task.name] = found
        sample = spread([(pair.source, pair.target) for pair in found], SAMPLE_SIZE)
        warning = language_warning(task.source, task.target, sample)
        if warning is not None:
            log(f"warning: task {task.name!r}: {_described(own)}: {warning}")
    return EvaluationSet(vocabulary, [task for task, _ in chosen], pairs)


def _by_task(
    tasks: Sequence[Direction], corpora: Sequence[EvaluationCorpus]
) -> list[tuple[Direction, list[CorpusReader]]]:
    """Creates the readers of the tasks, and checks that no two languages share a corpus."""
    known = [task.name for task in tasks]
    readers: dict[str, list[CorpusReader]] = {name: [] for name in known}
    for number, corpus in enumerate(corpora):
        mine = [task for task in tasks if corpus.tasks is None or task.name in corpus.tasks]
        made = [_reader(corpus, task) for task in mine]
        for task, reader in zip(mine, made, strict=True):
            for other, others_reader in zip(mine, made, strict=True):
                same_languages = (task.source, task.target) == (other.source, other.target)
                if not same_languages and reader.selection() == others_reader.selection():
                    raise errors.ConfigError(
                        f"corpus {number} ({_described([reader])}) holds one pair of languages, "
                        f"and would be scored for {task.name} and for {other.name}; choose the "
                        f"task with --tasks, or write `tasks: [{task.name}]` into the corpus"
                    )
            readers[task.name].append(reader)
    chosen = [(task, readers[task.name]) for task in tasks if readers[task.name]]
    if not chosen:
        named = {name for corpus in corpora for name in corpus.tasks or ()}
        raise errors.ConfigError(
            f"the corpora belong to {', '.join(sorted(named))}, and none of these is scored; the "
            f"tasks are {', '.join(known)}"
        )
    return chosen


def _of_task(task: Direction, error: errors.DataError) -> errors.DataError:
    return errors.DataError(
        f"{error} (read for task {task.name!r}; --tasks chooses tasks that the corpora have)"
    )


def _reader(corpus: EvaluationCorpus, task: Direction) -> CorpusReader:
    try:
        return create_reader(corpus.reader, task.source, task.target, corpus.options)
    except errors.DataError as error:
        raise _of_task(task, error) from error


def _read(
    task: Direction, reader: CorpusReader, log: Callable[[str], None]
) -> Iterator[EvaluationPair]:
    cleaner = Cleaner(given_settings(CleaningConfig()))
    stream = read_pairs(reader, cleaner.settings.max_bad_lines)
    try:
        for pair in stream:
            clean = cleaner.clean(pair.source, pair.target)
            if clean is not None:
                yield EvaluationPair(*clean, f"{_current_file(reader)}:{pair.line}")
    except errors.DataError as error:
        raise _of_task(task, error) from error
    for line in stream.report():
        log(f"{task.name}: {line}")


def _current_file(reader: CorpusReader) -> str:
    """Returns the file of the last pair: a reader counts its entries by file."""
    return next(reversed(reader.lines), reader.name)


def _described(readers: Sequence[CorpusReader]) -> str:
    """Returns the files of readers, or their names, as text: `newstest.en, newstest.fr`."""
    paths = list(dict.fromkeys(path for reader in readers for path in reader.paths()))
    if not paths:
        return ", ".join(reader.name for reader in readers)
    shown = ", ".join(paths[:3])
    return f"{shown} and {len(paths) - 3} more files" if len(paths) > 3 else shown


def _training_hashes(prepared: PreparedData, language: str) -> HashSet:
    """Returns hashes of the sentences of a language that any task is trained on."""
    hashes = HashSet()
    for task in prepared.tasks:
        reader = prepared.reader(task.name, "train")
        for side, spoken in enumerate((task.source, task.target)):
            if spoken != language:
                continue
            for begin in range(0, len(reader), _CHUNK):
                end = min(begin + _CHUNK, len(reader))
                rows = reader.gather(np.arange(begin, end))[side]
                for text in prepared.vocabulary.sides[side].decode_batch(rows):
                    hashes.add(split.source_hash(text))
    return hashes


def _unseen(
    pairs: list[EvaluationPair], seen: HashSet, vocabulary: Vocabulary
) -> list[EvaluationPair]:
    # In the form that training sentences have after decoding.
    own = vocabulary.source
    sources = own.decode_batch(own.encode_batch([pair.source for pair in pairs]))
    hashes = map(split.source_hash, sources)
    return [pair for pair, value in zip(pairs, hashes, strict=True) if value not in seen]
