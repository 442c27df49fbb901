"""Schedules in ``model.fit``: any Keras model, the same Mixture and Schedule as the trainer's."""

import io
import json
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mtl.data.mixture import Mixture
from keras_mtl.errors import CheckpointError, ConfigError, InputError, nearest
from keras_mtl.schedules import ScoreBook, TaskInfo, task_index_map
from keras_mtl.training.event_log import EventLog, Scores
from keras_mtl.training.task_evaluation import TaskEvaluation
from keras_mtl.training.task_planner import TaskPlanner

__all__ = ["TaskEvaluation", "TaskScheduling"]

# A backup is of the present epoch's end, of the one before (killed between two files), or of the
# one before that (BackupAndRestore's double_checkpoint).
_KEPT_STATES = 3


class TaskScheduling(keras.callbacks.Callback):
    """Lets a schedule decide between the epochs of ``fit`` which task gets how many batches.

    The dataset is ``mixture.dataset(steps=S)``; an epoch of ``fit`` is then S steps, each epoch
    goes on behind the one before, and ``steps_per_epoch`` is not given. At the end of an epoch the
    tasks are scored and the schedule learns from it; the next epoch's first batch is drawn by the
    new probabilities. Nothing that was prefetched is lost or seen twice, because the dataset ends
    with the epoch. Choose S by how quickly the schedule has to react.

    With ``state_path`` a run that was killed goes on exactly: ``keras.callbacks.BackupAndRestore``
    brings back weights and optimizer, this callback the place in every task's data, the schedule's
    state and the scores that belong to them. List this callback before BackupAndRestore, so that a
    backup never is newer than the schedule's state.

    Args:
      mixture: what the dataset is made of.
      evaluate: scores the tasks: a `TaskEvaluation`, or a function that returns {task name: score};
        a task that is left out keeps its score. None for a schedule that needs no scores.
      baselines: {task name: score of a model trained on this task alone}, > 0.
      higher_is_better: direction of the scores; None takes that of a `TaskEvaluation`, else True.
      interval: epochs between evaluations, >= 1.
      state_path: file that the state is kept in; None keeps nothing.
      event_log: also gets probabilities and scores, for ``plot_run``; None logs to ``fit`` alone.
      application: what the factors of an implicit schedule multiply. ``gradient``: the ``weight``
        of the dataset's rows, which ``map_fn`` must hand to the model as sample weight; for any
        optimizer whose moments the tasks share. ``learning_rate``: the learning rate; the model is
        compiled with `keras_mtl.training.optimizers.Adam` with ``num_tasks`` and scaled moments.
        None for a schedule without factors.

    Attributes:
      book: the scores and baselines, a `keras_mtl.schedules.ScoreBook`.

    The ``logs`` of an epoch, which ``History``, ``CSVLogger`` and ``TensorBoard`` record, get
    ``probability/<task>`` for the next epoch, ``score/<task>``, ``scale/<task>`` where the schedule
    has factors, and what a `TaskEvaluation` writes.

    Example::

        mixture = Mixture(sources, schedule, [Bucket(length=1, rows=32)], seed=1)
        to_xyw = lambda batch: (batch["x"], batch["y"], batch["weight"])
        model.fit(
            mixture.dataset(steps=100, map_fn=to_xyw),
            epochs=50,
            callbacks=[
                TaskScheduling(mixture, evaluate, baselines, state_path="run/tasks.npz"),
                keras.callbacks.BackupAndRestore("run/backup", delete_checkpoint=False),
            ],
        )

    Raises:
      ConfigError: arguments do not fit each other.
      CheckpointError: ``state_path`` is damaged or of another run.
      InputError: ``evaluate`` returned something else than scores of the mixture's tasks.
    """

    def __init__(
        self,
        mixture: Mixture,
        evaluate: TaskEvaluation | Callable[[], Mapping[str, float]] | None = None,
        baselines: Mapping[str, float] | None = None,
        higher_is_better: bool | None = None,
        interval: int = 1,
        state_path: str | os.PathLike[str] | None = None,
        event_log: EventLog | None = None,
        application: str | None = None,
    ):
        super().__init__()
        names = mixture.task_names
        for name in baselines or {}:
            if name not in names:
                raise ConfigError(f"baselines has an unknown task {name!r}{nearest(name, names)}")
        # Sizes matter to schedules, not to the book of scores.
        self._tasks = [TaskInfo(name, 0, (baselines or {}).get(name)) for name in names]
        if interval < 1:
            raise ConfigError(f"interval must be at least 1 epoch, got {interval}")
        if higher_is_better is None:
            higher_is_better = getattr(evaluate, "higher_is_better", True)
        self._mixture = mixture
        # What was made ahead of training is not consumed, under a strategy a whole epoch of it.
        mixture.count_iterations = False
        self._planner = TaskPlanner(mixture, application)
        self._evaluate = evaluate
        self._metric = evaluate.label if isinstance(evaluate, TaskEvaluation) else "score"
        self.book = ScoreBook(self._tasks, higher_is_better)
        self._interval = interval
        self._state_path = None if state_path is None else Path(state_path)
        self._event_log = event_log
        self._saved: list[dict[str, np.ndarray]] = []
        self._begun = False
        self._epoch_start = 0
        self._batches = 0

    @property
    def step(self) -> int:
        """Batches consumed since the run began, earlier processes counted."""
        return self._epoch_start + self._batches

    def on_train_begin(self, logs: Any = None) -> None:
        self._begun = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # Not in `on_train_begin`: by now BackupAndRestore has brought the optimizer back.
        if not self._begun:
            self._begin()
            self._begun = True
        self._epoch_start, self._batches = self._mixture.step, 0
        self._planner.epoch(self._epoch_start)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._planner.ahead(self.step, int(self.model.steps_per_execution))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # Called once for several steps with `steps_per_execution`, which counts beyond the end of
        # an epoch that is not a multiple of it.
        steps = (self.params or {}).get("steps")
        self._batches = batch + 1 if steps is None else min(batch + 1, steps)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        step = self.step
        # Training may have been stopped inside the epoch, when batches were already read ahead.
        self._mixture.finish(step)
        if self._evaluate is not None and (epoch + 1) % self._interval == 0:
            self._score(step, logs)
        probabilities = dict(
            zip(self._mixture.task_names, self._mixture.probabilities(step).tolist(), strict=True)
        )
        logs.update({f"probability/{name}": value for name, value in probabilities.items()})
        scales = None
        if self._mixture.scaling:
            values = self._mixture.scales(step).tolist()
            scales = dict(zip(self._mixture.task_names, values, strict=True))
            logs.update({f"scale/{name}": value for name, value in scales.items()})
        if self._event_log is not None:
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            self._event_log.train(step, {}, probabilities, learning_rate=rate, scales=scales)
        self._save()

    def _score(self, step: int, logs: dict[str, Any]) -> None:
        assert self._evaluate is not None
        start = time.perf_counter()
        if isinstance(self._evaluate, TaskEvaluation):
            self._evaluate.set_model(self.model)
            scores: Mapping[str, float] = self._evaluate.evaluate(logs)
        else:
            scores = self._evaluate()
        seconds = time.perf_counter() - start
        names = self._mixture.task_names
        for name, score in scores.items():
            if name not in names:
                raise InputError(f"evaluate scored an unknown task {name!r}{nearest(name, names)}")
            self.book.set(names.index(name), step, float(score))
        logs.update({f"score/{name}": float(score) for name, score in scores.items()})
        self._mixture.update(step, self.book)
        if self._event_log is not None:
            results = {
                name: Scores({"score": float(score)}, seconds / len(scores))
                for name, score in scores.items()
            }
            known = np.isfinite(self.book.baselines)
            ratios = None
            if known.all():
                ratios = dict(zip(names, self.book.ratios().tolist(), strict=True))
            self._event_log.evaluation(step, results, ratios, "score")

    def _iterations(self) -> int:
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

    def _save(self) -> None:
        state = {
            "iterations": np.array(self._iterations(), np.int64),
            "task_names": np.frombuffer(json.dumps(self._mixture.task_names).encode(), np.uint8),
            **{f"mixture/{key}": value for key, value in self._mixture.state().items()},
            **{f"book/{key}": value for key, value in self.book.state_dict().items()},
            "metric": np.array(self._metric),
        }
        self._saved = [*self._saved, state][-_KEPT_STATES:]
        if self._state_path is None:
            return
        flat = {
            f"{number}/{key}": value
            for number, saved in enumerate(self._saved)
            for key, value in saved.items()
        }
        buffer = io.BytesIO()
        np.savez(buffer, **flat)
        self._state_path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._state_path.with_name(self._state_path.name + ".partial")
        with open(partial, "wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self._state_path)

    def _begin(self) -> None:
        self._planner.start(self.model)
        path = self._state_path
        if path is None or not path.exists():
            self._save()
        else:
            self._restore(path)
        if self._event_log is not None:
            self._event_log.resume(self._mixture.step)

    def _restore(self, path: Path) -> None:
        """Takes the state that belongs to the optimizer's iterations, wherever those come from."""
        self._saved = _load(path)
        iterations = self._iterations()
        # States that are newer than the weights belong to steps that will be done again.
        self._saved = [state for state in self._saved if state["iterations"] <= iterations]
        if not self._saved:
            raise CheckpointError(
                f"{path} belongs to a run that is further than this model, whose optimizer has "
                f"done {iterations} iterations; restore the model's backup, or delete {path} to "
                "start anew"
            )
        state = self._saved[-1]
        self._mixture.restore(_part(state, "mixture/"))
        names = json.loads(bytes(state["task_names"]).decode())
        moved = task_index_map(names, self._mixture.task_names)
        book = ScoreBook.from_state(self._tasks, _part(state, "book/"), moved)
        saved = str(state["metric"]) if "metric" in state else None
        if self.book.same_metric(book, self._metric, saved):
            self.book = book
        else:
            warnings.warn(
                f"{path}: the metric is {self._metric!r}, and its scores are of {saved!r} with "
                f"higher_is_better={book.higher_is_better}; they are forgotten",
                stacklevel=2,
            )
        # A backup from inside an epoch: the batches up to it are known from its start.
        ahead = iterations - int(state["iterations"])
        accumulated = self.model.optimizer.gradient_accumulation_steps or 1
        self._mixture.finish(self._mixture.step + ahead * accumulated)


def _part(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def _load(path: Path) -> list[dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            flat = {key: file[key] for key in file.files}
        count = 1 + max(int(key.split("/", 1)[0]) for key in flat)
        states = [_part(flat, f"{number}/") for number in range(count)]
        if not all("iterations" in state for state in states):
            raise ValueError("a state without iterations")
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} is not a saved state of TaskScheduling ({error}); restore a copy, or delete "
            "it to start anew"
        ) from error
    return states
