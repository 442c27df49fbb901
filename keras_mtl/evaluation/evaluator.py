"""Scores every task on held-out pairs: selects the pairs, translates them, computes the metrics."""

import functools
import itertools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import numpy as np

from keras_mtl import metrics as metrics_lib
from keras_mtl.data.split import SPLITS
from keras_mtl.decoding.text_translator import TextTranslator
from keras_mtl.errors import ConfigError, DataError, InputError, nearest, nearest_task
from keras_mtl.evaluation.likelihood import Likelihood
from keras_mtl.evaluation.pairs import PairReader, PairSet
from keras_mtl.evaluation.results import ScoredPairs, TaskResult
from keras_mtl.evaluation.samples import take_samples
from keras_mtl.evaluation.stopping import PAIRS_AT_ONCE, raise_if_stopped
from keras_mtl.evaluation.translations import pairs_digest


class Translates(Protocol):
    """The methods of a translator that evaluation requires: text in, text out."""

    def translate(self, lines: Sequence[str], task: str) -> Sequence[str]:
        """Returns the best translation of each line, in the order of the lines."""


class CopySource:
    """A translator that returns its input. Any useful model scores higher."""

    def translate(self, lines: Sequence[str], task: str) -> list[str]:
        """Returns the lines unchanged."""
        return list(lines)


_LEFT_OUT_BY = {
    "dev": "list the other tasks in trainer.evaluation.tasks",
    "test": "name the other tasks with --tasks",
    "train": "name the other tasks with --tasks",
}


def no_pair(task: str, split: str) -> DataError:
    """Returns the error for a task that has no pair to score."""
    return DataError(
        f"task {task!r} has no {split} pair to score. Increase task.data.{split}_fraction, give "
        f"the task {split}_corpora, or omit the task: {_LEFT_OUT_BY[split]}"
    )


class Evaluator:
    """Scores every task on a held-out part of its data.

    Args:
        prepared: the prepared data.
        translator: translates the sources. None if no metric compares text.
        metrics: names of registered metrics (`keras_mtl.metrics.available`).
        max_pairs: maximum number of pairs for each task. They are evenly spaced among its pairs,
            sorted by length, so the selection is always the same and preserves the distribution of
            lengths. None uses all pairs.
        split: `dev`, `test`, or `train`. `train` suits questions that do not require held-out text,
            such as the effect of another compute type; its text is decoded from tokens.
        tasks: names of the tasks to score. None scores all.
        likelihood: computes the loss of the references. Required only by metrics of the loss.
        pairs_at_once: number of pairs to translate before the next check whether to stop, at least
            1.
        not_translated: names of the tasks that do not translate. They have no text metrics.
        own_metrics: names of metrics by task, for tasks that are scored by others than `metrics`.
        samples: largest number of sentences of each task that the results keep as samples.
        attention: whether samples have the attention of the decoder.

    Raises:
        ConfigError: a metric or task is unknown, an argument that a metric requires is missing, or
            no metric suits a task.
        DataError: a task has no pair in this split.
    """

    def __init__(
        self,
        prepared: PairSet,
        translator: Translates | None,
        metrics: Sequence[str] = ("bleu", "chrf"),
        max_pairs: int | None = None,
        split: str = "dev",
        tasks: Sequence[str] | None = None,
        likelihood: Likelihood | None = None,
        pairs_at_once: int = PAIRS_AT_ONCE,
        not_translated: Collection[str] = (),
        own_metrics: Mapping[str, Sequence[str]] | None = None,
        samples: int = 0,
        attention: bool = False,
    ):
        known = [task.name for task in prepared.tasks]
        self.tasks = list(known if tasks is None else dict.fromkeys(tasks))
        self._not_translated = frozenset(not_translated)
        own = own_metrics or {}
        self._metrics = {
            name: self._metrics_of(name, own.get(name, metrics)) for name in self.tasks
        }
        for name in dict.fromkeys(itertools.chain.from_iterable(self._metrics.values())):
            compares_text = metrics_lib.compares_text(metrics_lib.check_metric(name))
            if compares_text and translator is None:
                raise ConfigError(f"metric {name!r} requires a translator")
            if not compares_text and likelihood is None:
                raise ConfigError(f"metric {name!r} requires the model, not its translations")
        if max_pairs is not None and max_pairs < 1:
            raise ConfigError(f"max_pairs must be at least 1, got {max_pairs}")
        if split not in SPLITS:
            raise ConfigError(f"unknown split {split!r}{nearest(split, SPLITS)}")
        # Pairs that a user defines may have no languages.
        self._languages = {task.name: getattr(task, "target", "") for task in prepared.tasks}
        for name in self.tasks:
            if name not in known:
                raise ConfigError(f"unknown task {name!r}{nearest_task(name, known)}")
        self.split = split
        self.prepared = prepared
        self._translator = translator
        self._likelihood = likelihood
        self._pairs_at_once = pairs_at_once
        self._samples, self._attention = samples, attention
        self._readers: dict[str, PairReader] = {}
        self._indices: dict[str, np.ndarray] = {}
        for name in self.tasks:
            reader = prepared.reader(name, split)
            if not len(reader):
                raise no_pair(name, split)
            self._readers[name] = reader
            self._indices[name] = spread(len(reader), max_pairs)

    def _metrics_of(self, task: str, names: Sequence[str]) -> list[str]:
        """Returns the metrics that suit a task."""
        given = [metrics_lib.check_metric(name) for name in dict.fromkeys(names)]
        if not given:
            raise ConfigError(
                f"metrics is empty. Give some of {', '.join(metrics_lib.available())}"
            )
        if task not in self._not_translated:
            return given
        found = [name for name in given if not metrics_lib.compares_text(name)]
        if not found:
            raise ConfigError(
                f"task {task!r} does not translate, and the metrics {', '.join(given)} compare "
                "translations. Add a metric of the loss, such as perplexity, or omit the task"
            )
        return found

    def evaluate(
        self,
        log: Callable[[str], None] | None = None,
        stopped: Callable[[], bool] | None = None,
        tasks: Sequence[str] | None = None,
    ) -> dict[str, TaskResult]:
        """Scores the tasks with the current weights.

        Args:
            log: function that receives a line after each task.
            stopped: called every few seconds; returns whether to stop. None never stops.
            tasks: names of the tasks to score, some of `self.tasks`. None scores all.

        Returns:
            The result of each task, in the order of the tasks.

        Raises:
            EvaluationStopped: `stopped` returned True.
        """
        if isinstance(self._translator, TextTranslator):
            self._translator.refresh()
        results = {}
        for name in self.tasks if tasks is None else tasks:
            results[name] = result = self._evaluate(name, stopped)
            if log is not None:
                scores = "  ".join(
                    f"{metric} {value:.{metrics_lib.decimals(metric) + 1}f}"
                    for metric, value in result.scores.items()
                )
                log(f"{name}: {result.pairs:,} pairs in {result.seconds:.1f} s  {scores}")
        return results

    @property
    def translated_tasks(self) -> list[str]:
        """Names of the scored tasks that translate."""
        return [name for name in self.tasks if name not in self._not_translated]

    @functools.cached_property
    def scored_pairs(self) -> dict[str, ScoredPairs]:
        """Which pairs of each task `evaluate` scores. Reads the pairs without translating them."""
        found = {}
        for name in self.tasks:
            indices = self._indices[name]
            digest = pairs_digest(zip(*self._texts(self._readers[name], indices), strict=True))
            found[name] = ScoredPairs(len(indices), len(self._readers[name]), digest)
        return found

    def check_lengths(self, translator: TextTranslator) -> None:
        """Checks that no source is too long for a translator.

        Raises:
            InputError: a source is too long. The message names the file and line of the pair, or
                its number in the split.
        """
        for name in self.translated_tasks:
            reader, indices = self._readers[name], self._indices[name]
            sources, _ = self._texts(reader, indices)
            too_long = translator.too_long(sources)
            if not too_long:
                continue
            place, tokens = too_long[0]
            index = int(indices[place])
            place_of = getattr(reader, "place", None)
            shown = f"{self.split} pair {index + 1} of task {name!r}"
            if place_of:
                shown = place_of(index)
            others = f" ({len(too_long) - 1:,} more are too long)" if len(too_long) > 1 else ""
            raise InputError(
                f"{shown}: the source has {tokens} tokens, but the model accepts at most "
                f"{translator.longest_source}: {sources[place][:60]!r}{others}. Use --on_long_line "
                "truncate or --on_long_line skip, or remove the pair"
            )

    def _texts(self, reader: PairReader, indices: np.ndarray) -> tuple[list[str], list[str]]:
        """Returns sources and targets. Decodes them from tokens if the data has no text."""
        if reader.has_text:
            pairs = [reader.text(int(index)) for index in indices]
            return [source for source, _ in pairs], [target for _, target in pairs]
        vocabulary = self.prepared.vocabulary
        sources, targets = reader.gather(indices)
        return vocabulary.source.decode_batch(sources), vocabulary.decode_batch(targets)

    def _translate(
        self, sources: Sequence[str], task: str, stopped: Callable[[], bool] | None
    ) -> list[str]:
        """Translates the sources of a task and checks after each part whether to stop."""
        assert self._translator is not None  # Checked by the constructor.
        if stopped is None:
            return list(self._translator.translate(sources, task))
        found: list[str] = []
        for start in range(0, len(sources), self._pairs_at_once):
            raise_if_stopped(stopped, task)
            found += self._translator.translate(sources[start : start + self._pairs_at_once], task)
        return found

    def _evaluate(self, name: str, stopped: Callable[[], bool] | None) -> TaskResult:
        start = time.perf_counter()
        reader, indices = self._readers[name], self._indices[name]
        scored: dict[str, metrics_lib.MetricResult] = {}
        hypotheses: list[str] = []
        references: list[str] = []
        sources: list[str] = []
        names = self._metrics[name]
        text_metrics = [metric for metric in names if metrics_lib.compares_text(metric)]
        loss_metrics = [metric for metric in names if metric not in text_metrics]
        if text_metrics:
            sources, references = self._texts(reader, indices)
            hypotheses = self._translate(sources, name, stopped)
            for metric in text_metrics:
                scored[metric] = metrics_lib.score(
                    metric, hypotheses, references, self._languages.get(name, ""), sources
                )
        if loss_metrics:
            assert self._likelihood is not None  # Checked by the constructor.
            nll, tokens = self._likelihood.total(name, reader, indices, stopped)
            for metric in loss_metrics:
                scored[metric] = metrics_lib.loss_score(metric, nll, tokens)
        return TaskResult(
            pairs=len(indices),
            scores={metric: scored[metric].value for metric in names},
            signatures={metric: scored[metric].signature for metric in names},
            seconds=time.perf_counter() - start,
            hypotheses=hypotheses,
            references=references,
            sources=sources,
            samples=take_samples(
                name,
                sources,
                references,
                hypotheses,
                self._samples,
                self._translator if self._attention else None,
            ),
        )


def spread(count: int, most: int | None) -> np.ndarray:
    """Returns `min(count, most)` evenly spaced integers below `count`, int64, ascending."""
    if most is None or most >= count:
        return np.arange(count, dtype=np.int64)
    # The middle of each of `most` equal parts, in integers, which do not depend on rounding.
    return (2 * np.arange(most, dtype=np.int64) + 1) * count // (2 * most)
