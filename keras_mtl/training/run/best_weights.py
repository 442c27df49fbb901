"""The weights with the best scores of a run: on average, of the worst task, and of each task."""

import contextlib
import dataclasses
import functools
import json
import math
import re
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.configuration.keeping import MACRO, WORST, BestConfig
from keras_mtl.files import replace_file
from keras_mtl.run_files import BEST_SCORES_FILE
from keras_mtl.training.run.checkpoints import copy_checkpoint, write_checkpoint
from keras_mtl.training.run.selected_scores import SelectedScores
from keras_mtl.training.run.snapshots import Snapshot, Snapshots

_KEY = "best"  # The best mean over tasks: score and step.
_LISTS = "best_lists"
_CHECKPOINT = re.compile(r"ckpt-(\d+)\.")


@dataclasses.dataclass
class Ranking:
    """The best weights by one score.

    Attributes:
        name: `macro`, `worst` or the name of a task.
        directory: directory of their checkpoints.
        size: largest number of weights; >= 1.
        listed: whether a file in the directory lists the scores.
        entries: score and step of the weights, the best first.
        saved: steps of the entries in the newest complete checkpoint of the run, which keep their
            files: a run that is killed resumes there.
        collected: steps of the entries in the checkpoint that may still be written.
    """

    name: str
    directory: Path
    size: int
    listed: bool = True
    entries: list[tuple[float, int]] = dataclasses.field(default_factory=list)
    saved: frozenset[int] = frozenset()
    collected: frozenset[int] = frozenset()

    def add(self, step: int, score: float, better: Callable[[float, float], bool]) -> bool:
        """Enters weights if they are among the best; of equal ones, the older are better.

        Args:
            step: step of the weights.
            score: their score.
            better: whether a score is better than another.

        Returns:
            Whether they were entered.
        """
        entries = [entry for entry in self.entries if entry[1] != step]
        place = sum(not better(score, other) for other, _ in entries)
        if place >= self.size:
            return False
        self.entries = [*entries[:place], (score, step), *entries[place:]][: self.size]
        return True

    def tidy(self, metric: str) -> None:
        """Deletes the checkpoints that are not among the best, and lists the scores of several."""
        kept = self.saved | self.collected | self._steps()
        self._delete(lambda name, step: step not in kept or name != f"ckpt-{step}")
        if not self.listed:
            return
        scores = {f"ckpt-{step}": score for score, step in self.entries}
        content = {"metric": metric, "score": self.name, "checkpoints": scores}
        text, file = json.dumps(content, indent=1) + "\n", self.directory / BEST_SCORES_FILE
        # Of hundreds of lists, most have not changed.
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if file.read_text(encoding="utf-8") == text:
                return
        replace_file(file, text)

    def resume(self, last: int, metric: str) -> None:
        """Makes the files those of a checkpoint of the run.

        Weights of later steps are those of a run that got further and was killed. Entries without
        weights are dropped, so that the next weights take their place.

        Args:
            last: step of the last validation of the checkpoint.
            metric: name of the metrics of the scores.
        """
        self._delete(lambda name, step: step > last)
        self.entries = [
            (score, step)
            for score, step in self.entries
            if (self.directory / f"ckpt-{step}.index").exists()
        ]
        if self.entries:
            self.tidy(metric)

    def restore(self, entries: Sequence[tuple[float, int]]) -> None:
        """Sets the entries to those of a checkpoint, without those that are too many."""
        self.entries = list(entries[: self.size])
        self.saved = self.collected = self._steps()

    def collect(self) -> None:
        """Notes that the present entries are in a checkpoint that is going to be written."""
        self.collected = self._steps()

    def complete(self, metric: str) -> None:
        """Deletes what only older checkpoints know, because the last one is complete."""
        self.saved = self.collected
        if self.entries:
            self.tidy(metric)

    def _steps(self) -> frozenset[int]:
        return frozenset(step for _, step in self.entries)

    def _delete(self, condition: Callable[[str, int], bool]) -> None:
        """Deletes the checkpoints whose names and steps meet a condition."""
        found = []
        for file in self.directory.glob("ckpt-*"):
            match = _CHECKPOINT.match(file.name)
            if match and condition(match[0].removesuffix("."), int(match[1])):
                found.append(file)
        # The index first: without it, data are no checkpoint.
        for file in sorted(found, key=lambda file: file.suffix != ".index"):
            file.unlink(missing_ok=True)


class BestWeights:
    """Keeps checkpoints of the best weights, and their scores.

    `best/` has the weights with the best mean over tasks. The lists of `trainer.best` are in
    directories below it. Checkpoints of the same weights are hard links to the same files if the
    file system supports them.

    Args:
        directory: the directory `best`.
        metric: name of the metrics of the scores.
        selected: computes what the weights are compared by.
        settings: section `trainer.best`.
        writes: whether to write files; False for a process that is not the chief.
    """

    def __init__(
        self,
        directory: Path,
        metric: str,
        selected: SelectedScores,
        settings: BestConfig,
        writes: bool = True,
    ):
        self._metric = metric
        self._selected = selected
        self._writes = writes
        self._best = Ranking(MACRO, directory, 1, listed=False)
        self._lists: list[Ranking] = []
        if settings.macro > 1:
            self._lists.append(Ranking(MACRO, directory / MACRO, settings.macro))
        if settings.worst:
            self._lists.append(Ranking(WORST, directory / WORST, settings.worst))
        if settings.tasks:
            self._lists += [
                Ranking(name, directory / "tasks" / name, settings.tasks)
                for name in selected.validated
            ]

    @property
    def score(self) -> float:
        """Best score averaged over the validated tasks; NaN before the first score."""
        return self._best.entries[0][0] if self._best.entries else math.nan

    @property
    def step(self) -> int:
        """Step of the weights of `score`; -1 before the first score."""
        return self._best.entries[0][1] if self._best.entries else -1

    def write(
        self,
        step: int,
        scores: Mapping[str, float],
        model: Any,
        scored: Container[str] | None = None,
    ) -> None:
        """Saves the model's current weights where they are among the best.

        Args:
            step: number of updates of the weights.
            scores: the latest score by task.
            model: the model.
            scored: the tasks whose scores are of these weights; None: all.

        Raises:
            CheckpointError: the weights cannot be written.
        """
        checkpoint = tf.train.Checkpoint(model=model)
        self._keep(
            step,
            scores,
            lambda prefix, done: write_checkpoint(checkpoint, prefix, done),
            scored,
        )

    def keep(
        self,
        snapshot: Snapshot,
        scores: Mapping[str, float],
        snapshots: Snapshots,
        scored: Container[str] | None = None,
    ) -> None:
        """Saves the weights of a snapshot where they are among the best.

        Raises:
            CheckpointError: the weights cannot be written.
        """
        source = snapshots.checkpoint(snapshot)
        self._keep(
            snapshot.step,
            scores,
            lambda prefix, done: copy_checkpoint(source, prefix, done),
            scored,
        )

    def _keep(
        self,
        step: int,
        scores: Mapping[str, float],
        save: Callable[[Path, Callable[[], None]], Any],
        scored: Container[str] | None,
    ) -> None:
        written: Path | None = None
        for ranking in (*self._lists, self._best):
            name = ranking.name
            if scored is not None and name not in (MACRO, WORST) and name not in scored:
                continue
            score = self._selected.value(name, scores)
            better = functools.partial(self._selected.is_better, name)
            if not ranking.add(step, score, better) or not self._writes:
                continue
            prefix = ranking.directory / f"ckpt-{step}"
            tidy = functools.partial(ranking.tidy, self._metric)
            if written is None:
                save(prefix, tidy)
            else:
                copy_checkpoint(written, prefix, tidy)
            written = prefix

    def forget(self, names: Container[str] | None = None) -> bool:
        """Forgets scores. Checkpoints remain until the next best ones replace them.

        Args:
            names: `macro`, `worst` and names of tasks; None: all.

        Returns:
            Whether there were any.
        """
        forgotten = False
        for ranking in (self._best, *self._lists):
            if names is None or ranking.name in names:
                forgotten |= bool(ranking.entries)
                ranking.entries = []
        return forgotten

    def resume(self, last: int) -> None:
        """Makes the files those of the checkpoint that was restored.

        Args:
            last: step of its last validation.
        """
        if self._writes:
            for ranking in (self._best, *self._lists):
                ranking.resume(last, self._metric)

    def complete(self) -> None:
        """Deletes the weights that only older checkpoints than the last collected one know.

        Call it when that checkpoint is complete.
        """
        if self._writes:
            for ranking in (self._best, *self._lists):
                ranking.complete(self._metric)

    def collect(self, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        """Returns arrays for `restore`, for a checkpoint; see `complete`.

        Args:
            tasks: names of all tasks, in the order of the checkpoint.
        """
        state = {_KEY: np.array([self.score, self.step], np.float64)}
        for ranking in self._lists:
            name = ranking.name
            key = name if name in (MACRO, WORST) else f"task{tasks.index(name)}"
            state[f"{_LISTS}/{key}"] = np.array(ranking.entries, np.float64).reshape(-1, 2)
        for ranking in (self._best, *self._lists):
            ranking.collect()
        return state

    def restore(
        self, state: Mapping[str, np.ndarray], tasks: Sequence[str], index_map: np.ndarray
    ) -> None:
        """Restores the scores and steps from the arrays of `collect`.

        Args:
            state: the arrays, possibly among others.
            tasks: names of all tasks.
            index_map: int64 [N], the saved index of each task, -1 for a new one.
        """
        score, step = state[_KEY]
        self._best.restore([] if step < 0 else [(float(score), int(step))])
        for ranking in self._lists:
            name = ranking.name
            key = name if name in (MACRO, WORST) else f"task{index_map[tasks.index(name)]}"
            saved = state.get(f"{_LISTS}/{key}", np.zeros((0, 2)))
            ranking.restore([(float(score), int(step)) for score, step in saved])
