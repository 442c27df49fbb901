"""The first pass of `prepare`: reads, cleans and splits corpora into train, dev and test."""

import array
import collections
import contextlib
import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from keras_mtl import errors
from keras_mtl.configuration.schema import CleaningConfig, DataConfig, PairConfig
from keras_mtl.data import corpora, split
from keras_mtl.data.cleaning import Cleaner
from keras_mtl.data.language_check import SAMPLE_SIZE, Sample, language_warning, spread
from keras_mtl.data.prepare_settings import cleaning_of
from keras_mtl.data.store_writer import disk_errors

# Cleaning leaves no control characters in a text.
_SEPARATOR = "\x1f"
_BUFFERED_LINES = 2000
# Seconds between two lines of progress.
_PROGRESS_INTERVAL = 5.0
# Number of pairs of each task that are shown.
SHOWN_PAIRS = 3


class Spill:
    """Cleaned pairs in a temporary text file, which can be read repeatedly.

    Args:
        path: file to write.
        keep_hashes: whether to keep the hash of each pair, to choose a part of the pairs.
    """

    def __init__(self, path: str, keep_hashes: bool) -> None:
        self._path = path
        self._lines: list[str] = []
        self._hashes = array.array("Q") if keep_hashes else None
        self._chosen: np.ndarray | None = None
        self.size = 0
        with disk_errors(path):
            self._file = open(path, "w", encoding="utf-8", newline="\n")  # noqa: SIM115

    def add(self, source: str, target: str) -> None:
        """Appends a pair."""
        self._lines.append(f"{source}{_SEPARATOR}{target}\n")
        if self._hashes is not None:
            self._hashes.append(split.pair_hash(source, target))
        self.size += 1
        if len(self._lines) >= _BUFFERED_LINES:
            self._flush()

    def _flush(self) -> None:
        with disk_errors(self._path):
            self._file.writelines(self._lines)
        self._lines.clear()

    def finish(self, limit: int | None) -> int:
        """Keeps the `limit` pairs with the lowest hashes; returns the number of dropped pairs."""
        self._flush()
        with disk_errors(self._path):
            self._file.close()
        hashes, self._hashes = self._hashes, None
        if limit is None or self.size <= limit or hashes is None:
            return 0
        order = np.argsort(np.frombuffer(hashes, np.uint64), kind="stable")
        self._chosen = np.zeros(self.size, bool)
        self._chosen[order[:limit]] = True
        dropped = self.size - limit
        self.size = limit
        return dropped

    def close(self) -> None:
        """Closes the file, complete or not."""
        # On a full disk, closing tries to write the rest and fails again, after an error that
        # names the file.
        with contextlib.suppress(OSError):
            self._file.close()

    def extend(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Appends pairs after `finish`; they do not count towards its limit."""
        with disk_errors(self._path), open(self._path, "a", encoding="utf-8", newline="\n") as file:
            added = 0
            for source, target in pairs:
                file.write(f"{source}{_SEPARATOR}{target}\n")
                added += 1
        if self._chosen is not None:
            self._chosen = np.concatenate([self._chosen, np.ones(added, bool)])
        self.size += added

    def rest(self) -> Iterator[tuple[str, str]]:
        """Yields the pairs that `finish` dropped."""
        if self._chosen is not None:
            yield from self._pairs(~self._chosen)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return self._pairs(self._chosen)

    def _pairs(self, chosen: np.ndarray | None) -> Iterator[tuple[str, str]]:
        with open(self._path, encoding="utf-8", newline="\n") as file:
            for line in file if chosen is None else itertools.compress(file, chosen):
                source, _, target = line[:-1].partition(_SEPARATOR)
                yield source, target

    def remove(self) -> None:
        """Deletes the file."""
        os.remove(self._path)


@dataclasses.dataclass
class TaskText:
    """A task after the first pass.

    Attributes:
        spec: the task.
        spills: cleaned pairs by split.
        held_out: cleaned pairs of `corpora` that another task's split may hold out.
        counts: numbers of pairs by rule. `read` is their sum without the pairs that the reader
            dropped (`reader: <rule>`) and bad lines (`bad lines`).
        samples: cleaned pairs of each corpus, by its place, such as `corpora[0]`.
    """

    spec: PairConfig
    spills: dict[str, Spill]
    held_out: Spill
    counts: collections.Counter[str]
    samples: dict[str, Sample] = dataclasses.field(default_factory=dict)

    def shown_pairs(self) -> list[tuple[str, str]]:
        """Returns a few pairs of the task to show to the user."""
        pairs = [pair for sample in self.samples.values() for pair in sample.pairs]
        return spread(pairs, SHOWN_PAIRS)

    def language_warnings(self) -> list[str]:
        """Returns a warning for each corpus that seems to be in other languages."""
        warnings = []
        for place, sample in self.samples.items():
            text = language_warning(self.spec.source, self.spec.target, sample.pairs)
            if text is not None:
                warnings.append(f"task {self.spec.name!r}: {place}: {text}")
        return warnings


class Progress:
    """Prints a line to standard error every few seconds while a corpus is read."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._next = time.monotonic() + _PROGRESS_INTERVAL

    def __call__(self, pairs: int) -> None:
        if time.monotonic() >= self._next:
            print(f"{self._task}: {pairs:,} pairs read", file=sys.stderr, flush=True)
            self._next = time.monotonic() + _PROGRESS_INTERVAL


class HeldOut:
    """The sentences that no task may train on: the dev and test sources of all tasks.

    If a task translates into the source language of another task, its targets are checked too:
    otherwise fr-en would train on the reversed test pairs of en-fr.

    Args:
        tasks: all tasks.
        data: fractions of the split.
    """

    def __init__(self, tasks: Sequence[PairConfig], data: DataConfig) -> None:
        self._fractions = data.dev_fraction, data.test_fraction
        self._hashes: set[int] = set()
        self._languages = {task.source for task in tasks}
        self._by_hash = {
            "train": False,
            "dev": any(not task.dev_corpora for task in tasks),
            "test": any(not task.test_corpora for task in tasks),
        }

    def add(self, source: str) -> None:
        """Adds a source of a dev or test set."""
        self._hashes.add(split.source_hash(source))

    def allows(self, task: PairConfig, source: str, target: str) -> bool:
        """Whether a task may train on a pair; call it after all dev and test sources are added."""
        if split.source_hash(source) in self._hashes:
            return False
        return not self._target_too(task) or split.source_hash(target) not in self._hashes

    def _target_too(self, task: PairConfig) -> bool:
        return task.target in self._languages

    def _forbids(self, value: int) -> bool:
        return self._by_hash[split.split_of_hash(value, *self._fractions)] or value in self._hashes

    def assigner(self, task: PairConfig) -> Callable[[str, str], str]:
        """Returns a function from a pair of the task's `corpora` to its split or "held out"."""
        own = {"train": False, "dev": not task.dev_corpora, "test": not task.test_corpora}
        target_too = self._target_too(task)
        fractions = self._fractions

        def assign(source: str, target: str) -> str:
            value = split.source_hash(source)
            where = split.split_of_hash(value, *fractions)
            if own[where]:
                return where
            if self._forbids(value) or (target_too and self._forbids(split.source_hash(target))):
                return "held out"
            return "train"

        return assign


def given_settings(settings: CleaningConfig) -> CleaningConfig:
    """Drops only pairs that cannot be scored: given dev and test sets stay whole."""
    return dataclasses.replace(
        settings,
        max_characters=sys.maxsize,
        max_length_ratio=float("inf"),
        drop_identical=False,
        drop_duplicates=False,
    )


def read_corpora(
    text: TaskText, field: str, cleaner: Cleaner, log: Callable[[str], None]
) -> Iterator[tuple[str, str]]:
    """Yields the cleaned pairs of a task's corpora and keeps a sample of each.

    Args:
        text: the task; pairs that are dropped before the cleaner are added to its counts.
        field: field of the corpora: `corpora`, `dev_corpora` or `test_corpora`.
        cleaner: cleaner of the pairs.
        log: function that is called with each reported bad line.
    """
    task, counts = text.spec, text.counts
    progress = Progress(task.name)
    number = 0
    for index, corpus in enumerate(getattr(task, field)):
        sample = text.samples[f"{field}[{index}] (reader {corpus.reader!r})"] = Sample()
        reader = corpora.create_reader(corpus.reader, task.source, task.target, corpus.options)
        stream = corpora.read_pairs(reader, cleaner.settings.max_bad_lines)
        for pair in stream:
            number += 1
            if not number % 1000:
                progress(number)
            clean = cleaner.clean(pair.source, pair.target)
            if clean is not None:
                sample.add(clean)
                yield clean
        counts["bad lines"] += stream.bad
        for rule, dropped in stream.dropped.items():
            counts[f"reader: {rule}"] += dropped
        for line in stream.report():
            log(f"{task.name}: {line}")


def read_text(
    tasks: Sequence[PairConfig],
    data: DataConfig,
    directory: str,
    log: Callable[[str], None],
) -> list[TaskText]:
    """Reads, cleans and splits the corpora of all tasks.

    Args:
        tasks: the tasks.
        data: cleaning, fractions and caps.
        directory: temporary directory for the text.
        log: function that is called with each reported bad line.

    Returns:
        The tasks in order, each with at least one training pair.

    Raises:
        DataError: a corpus is missing or damaged, a task has no training pairs left, or the disk
            is full.
        ConfigError: a reader or option is unknown.
    """
    held_out = HeldOut(tasks, data)
    texts = []
    for number, task in enumerate(tasks):
        spills: dict[str, Spill] = {
            name: Spill(
                os.path.join(directory, f"{number}.{name}.text"),
                keep_hashes=name != "train" or task.max_pairs is not None,
            )
            for name in split.SPLITS
        }
        held = Spill(os.path.join(directory, f"{number}.held_out.text"), keep_hashes=False)
        texts.append(TaskText(task, spills, held, collections.Counter()))
    try:
        # Given dev and test sets come first, because no task may train on their sentences.
        for text in texts:
            for name in ("dev", "test"):
                cleaner = Cleaner(given_settings(cleaning_of(text.spec, data)))
                for source, target in read_corpora(text, f"{name}_corpora", cleaner, log):
                    held_out.add(source)
                    text.spills[name].add(source, target)
                _count(text.counts, cleaner)
        for text in texts:
            _read_training(text, data, held_out, log)
        for text in texts:
            for name in _splits_of_corpora(text.spec):
                for source, _ in text.spills[name]:
                    held_out.add(source)
        for number, text in enumerate(texts):
            _return_to_training(text, held_out, os.path.join(directory, f"{number}.returned.text"))
            if not text.spills["train"].size:
                raise empty_task(text)
    finally:
        for text in texts:
            for spill in (*text.spills.values(), text.held_out):
                spill.close()
    return texts


def _splits_of_corpora(task: PairConfig) -> list[str]:
    """Returns which of dev and test are split off the task's `corpora`."""
    return [
        name
        for name, given in (("dev", task.dev_corpora), ("test", task.test_corpora))
        if not given
    ]


def _count(counts: collections.Counter[str], cleaner: Cleaner) -> None:
    for rule, value in cleaner.counts.rows():
        counts[rule] += value


def _read_training(
    text: TaskText,
    data: DataConfig,
    held_out: HeldOut,
    log: Callable[[str], None],
) -> None:
    """Reads a task's `corpora` into its spills and applies the caps."""
    task, counts = text.spec, text.counts
    cleaner = Cleaner(cleaning_of(task, data))
    assign = held_out.assigner(task)
    add = {name: spill.add for name, spill in text.spills.items()}
    add["held out"] = text.held_out.add
    for source, target in read_corpora(text, "corpora", cleaner, log):
        add[assign(source, target)](source, target)
    _count(counts, cleaner)
    caps = {"train": task.max_pairs, "dev": data.dev_pairs, "test": data.test_pairs}
    for name, spill in text.spills.items():
        counts[f"over {name} cap"] = spill.finish(caps[name])
    text.held_out.finish(None)
    counts["held out"] = text.held_out.size


def _return_to_training(text: TaskText, held_out: HeldOut, path: str) -> None:
    """Returns pairs to training that the caps removed from all dev and test sets.

    `max_pairs` counts these pairs after all others, so it chooses the same pairs with any caps of
    dev and test.

    Args:
        text: the task, whose training pairs are extended.
        held_out: the sources of all dev and test sets.
        path: path of a temporary file.
    """
    task, counts, train = text.spec, text.counts, text.spills["train"]
    room = None if task.max_pairs is None else task.max_pairs - train.size
    if room != 0:
        sources = {
            f"over {name} cap": text.spills[name].rest() for name in _splits_of_corpora(task)
        }
        returned = Spill(path, keep_hashes=room is not None)
        with contextlib.closing(returned):
            for rule, pairs in (*sources.items(), ("held out", iter(text.held_out))):
                for source, target in pairs:
                    if held_out.allows(task, source, target):
                        returned.add(source, target)
                        counts[rule] -= 1
            counts["over train cap"] += returned.finish(room)
        train.extend(returned)
        returned.remove()
    text.held_out.remove()


def empty_task(text: TaskText) -> errors.DataError:
    """Returns the error for a task without training pairs; it names all counts."""
    shown = ", ".join(
        f"{rule} {value:,}"
        for rule, value in text.counts.items()
        if value and rule not in ("kept", "normalized")
    )
    names = ", ".join(corpus.reader for corpus in text.spec.corpora)
    sizes = ", ".join(f"{name} {spill.size:,}" for name, spill in text.spills.items())
    return errors.DataError(
        f"task {text.spec.name!r}: no training pairs are left of its corpora ({names}): "
        f"{shown or 'read 0'}; {sizes}; check the corpora's files and languages and the rules in "
        "task.data.cleaning"
    )


def sample_corpora(
    task: PairConfig, data: DataConfig, seconds: float
) -> tuple[list[tuple[str, str]], list[str]]:
    """Reads the first pairs of a task's corpora, to show some and to check their languages.

    Corpora that cannot be read or would be downloaded are skipped.

    Args:
        task: the task.
        data: cleaning.
        seconds: time after which reading stops; opening a large corpus may take longer.

    Returns:
        The pairs, and the warnings of `TaskText.language_warnings`.
    """
    end = time.monotonic() + seconds
    text = TaskText(task, {}, None, collections.Counter())  # type: ignore[arg-type]
    for field in ("corpora", "dev_corpora", "test_corpora"):
        for index, corpus in enumerate(getattr(task, field)):
            if corpus.options.get("download"):
                continue
            sample = text.samples[f"{field}[{index}] (reader {corpus.reader!r})"] = Sample()
            cleaner = Cleaner(cleaning_of(task, data))
            with contextlib.suppress(errors.KerasMtlError):
                options = corpus.options
                reader = corpora.create_reader(corpus.reader, task.source, task.target, options)
                for pair in corpora.read_pairs(reader, 1.0):
                    clean = cleaner.clean(pair.source, pair.target)
                    if clean is not None:
                        sample.add(clean)
                    if len(sample.pairs) >= SAMPLE_SIZE or time.monotonic() > end:
                        break
    return text.shown_pairs(), text.language_warnings()
