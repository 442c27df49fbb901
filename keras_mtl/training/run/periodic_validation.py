"""Validation during a run: its schedule, the validated weights and the use of the scores."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.data.mixture import Mixture
from keras_mtl.data.prepare import PreparedData
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.evaluation.background import BackgroundEvaluation, Results
from keras_mtl.evaluation.evaluator import Evaluator
from keras_mtl.evaluation.run_evaluators import engine_evaluator, model_evaluator
from keras_mtl.evaluation.stopping import EvaluationStopped
from keras_mtl.evaluation.tasks import translation_tasks
from keras_mtl.metrics import decimals, schedule_score
from keras_mtl.training.run.averaged_weights import averaged_weights
from keras_mtl.training.run.best_weights import BestWeights
from keras_mtl.training.run.building import check_dev_sizes
from keras_mtl.training.run.directory import RunDirectory
from keras_mtl.training.run.early_stopping import EarlyStopping
from keras_mtl.training.run.event_log import EventLog, Scored, Scores
from keras_mtl.training.run.planning import TrainingPlan
from keras_mtl.training.run.selected_scores import SelectedScores
from keras_mtl.training.run.snapshots import Snapshot, Snapshots
from keras_mtl.training.step.workers import Workers

Log = Callable[[str], None]
Stopped = Callable[[], bool]


class PeriodicValidation:
    """Validates the tasks, updates the schedule, keeps the best weights and writes the log.

    With `trainer.evaluation.lag`, the engine validates the weights of step s in a background
    thread, and the scores take effect exactly at step s + lag, where training waits for them if
    necessary. At most one validation runs at a time: its scores take effect before the next one
    starts and before training ends.

    Args:
        plan: the plan of the training.
        prepared: the prepared store.
        model: the model.
        optimizer: its optimizer; if it averages the weights, the averages are validated.
        mixture: the mixture whose schedule uses the scores.
        directory: the run's directory.
        events: the run's log.
        workers: the processes of the run; the chief evaluates and writes for all.

    Attributes:
        best: the best weights among those whose scores are in effect.
        stopping: whether training ends early.
        evaluated_step: step of the weights whose scores are in effect; -1 before the first.
        pending: the validation whose scores are not in effect yet.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        prepared: PreparedData,
        model: Any,
        optimizer: Any,
        mixture: Mixture,
        directory: RunDirectory,
        events: EventLog,
        workers: Workers,
    ) -> None:
        self._workers = workers
        self._settings = plan.config.trainer.evaluation
        self._decoding = plan.config.task.decoding
        self._sharing = plan.config.task.model.sharing
        self._train_steps = plan.config.trainer.train_steps
        self._accumulation = plan.config.trainer.optimizer.gradient_accumulation_steps
        self._validated = plan.validated
        self._prepared = prepared
        self._model = model
        self._optimizer = optimizer
        self._mixture = mixture
        self._directory = directory
        self._events = events
        self._snapshots = Snapshots(directory.pending)
        self._background = BackgroundEvaluation()
        baselines = plan.schedule.baselines if plan.schedule else None
        selected = SelectedScores(self._settings.metric, plan.validated, baselines)
        trainer = plan.config.trainer
        self.best = BestWeights(
            directory.best, self._settings.metric, selected, trainer.best, workers.chief
        )
        self.stopping = EarlyStopping(trainer.stopping, selected)
        self.evaluated_step = -1
        self.pending: Snapshot | None = None

    def next_stop(self, step: int) -> int:
        """Returns the next step after `step` at which `run_due` must be called."""
        interval = self._settings.interval
        stop = self._train_steps
        if interval:
            stop = min(stop, (step // interval + 1) * interval)
        return min(stop, max(step + 1, self.pending.due)) if self.pending else stop

    def run_due(self, step: int, log: Log, stopped: Stopped | None = None) -> bool:
        """Starts and finishes the validations that are due at a step.

        Args:
            step: the step.
            log: function that receives a line when scores take effect.
            stopped: function that is polled for whether to stop; None never stops. Scores that have
                already taken effect remain; the next call, or the next run, does the rest.

        Returns:
            Whether scores took effect. If so, batches must be read again.

        Raises:
            EvaluationStopped: `stopped` returned True.
        """
        last = step == self._train_steps
        interval = self._settings.interval
        due = last or (interval > 0 and step % interval == 0)
        took_effect = self.pending is not None and (due or step >= self.pending.due)
        if took_effect:
            self._take_effect(step, log, stopped)
        if not due or self.evaluated_step == step:
            return took_effect
        if not self._settings.lag:
            self.evaluate(step, log, stopped)
            return True
        self._begin(Snapshot(step, step if last else step + self._settings.lag))
        if last:
            self._take_effect(step, log, stopped)
        return took_effect or last

    def evaluate(self, step: int, log: Log, stopped: Stopped | None = None) -> dict[str, float]:
        """Validates the current weights; the scores take effect immediately.

        Args:
            step: number of updates so far.
            log: function that receives a line with the scores.
            stopped: function that is polled for whether to stop; None never stops.

        Returns:
            The score of `trainer.evaluation.metric` by task.

        Raises:
            EvaluationStopped: `stopped` returned True; nothing has changed.
        """
        with averaged_weights(self._model, self._optimizer, step):
            results, _ = self._from_chief(
                lambda: (self._evaluator.evaluate(stopped=stopped), 0.0), step
            )
            scores = self._scores(results)
            self._workers.together(lambda: self.best.write(step, scores, self._model))
        return self._learn(step, step, results, log)

    def score(self, step: int, log: Log) -> None:
        """Validates the current weights and logs the scores without changing files or schedule."""
        with averaged_weights(self._model, self._optimizer, step):
            results, _ = self._from_chief(lambda: (self._evaluator.evaluate(), 0.0), step)
            self._enter(step, results, log)

    def check_pairs(self, log: Log) -> None:
        """Checks before the first step that every validated task has dev pairs.

        Args:
            log: function that receives a warning if tasks have few dev pairs.

        Raises:
            DataError: a task has no dev pairs.
        """
        for warning in check_dev_sizes(self._validated, self._prepared):
            log(f"warning: {warning}")

    def resume(self, validates: bool, log: Log) -> None:
        """Restarts the validation that was running when the checkpoint was saved.

        Args:
            validates: whether this run validates; if not, that validation is dropped.
            log: function that receives a line if it is dropped.
        """
        if self.pending and validates:
            self._start(self.pending)
        elif self.pending:
            log(f"the validation of step {self.pending.step:,} is dropped: this run has none")
            self.pending = None

    def close(self) -> None:
        """Stops a background validation; a run that resumes from a checkpoint repeats it."""
        self._background.stop()

    def prune(self, checkpoints: Callable[[], Sequence[int]]) -> None:
        """Deletes the snapshots that neither a checkpoint nor the pending validation needs."""
        if self._workers.chief:
            self._snapshots.prune(checkpoints, self.pending)

    def _begin(self, snapshot: Snapshot) -> None:
        def write() -> None:
            self._snapshots.write(
                snapshot,
                self._model,
                self._prepared.vocabulary,
                self._tasks,
                self._settings.compute_type,
            )

        with averaged_weights(self._model, self._optimizer, snapshot.step):
            self._workers.on_chief(write)
        self.pending = snapshot
        self._start(snapshot)

    def _start(self, snapshot: Snapshot) -> None:
        path = self._snapshots.engine_file(snapshot)

        def evaluate(stopped: Callable[[], bool]) -> Results:
            evaluator = engine_evaluator(
                self._settings, self._decoding, self._tasks, path, self._prepared
            )
            return evaluator.evaluate(stopped=stopped)

        if self._workers.chief:
            self._background.start(evaluate)

    def _take_effect(self, step: int, log: Log, stopped: Stopped | None) -> None:
        assert self.pending is not None  # the caller has checked this
        results, waited = self._from_chief(
            lambda: self._background.result(stopped), self.pending.step
        )
        snapshot, self.pending = self.pending, None
        scores = self._scores(results)
        self._workers.together(lambda: self.best.keep(snapshot, scores, self._snapshots))
        self._learn(snapshot.step, step, results, log, waited)

    def _macro(self, results: Mapping[str, Scores]) -> float:
        return float(np.mean(list(self._scores(results).values())))

    def _scores(self, results: Mapping[str, Scores]) -> dict[str, float]:
        return {name: results[name].scores[self._settings.metric] for name in self._validated}

    def _from_chief(
        self, evaluate: Callable[[], tuple[Results, float] | None], step: int
    ) -> tuple[Mapping[str, Scores], float]:
        """Returns the chief's results, and the seconds that it waited for them.

        Args:
            evaluate: called on the chief; None if it was asked to stop.
            step: step of the weights that are validated.

        Raises:
            EvaluationStopped: the chief was asked to stop.
        """

        def encoded() -> tuple[dict[str, Any], float] | None:
            with contextlib.suppress(EvaluationStopped):
                found = evaluate()
                if found is not None:
                    results, waited = found
                    return {name: _plain(result) for name, result in results.items()}, waited
            return None

        found = self._workers.from_chief(encoded)
        if found is None:
            raise EvaluationStopped(f"step {step}")
        results, waited = found
        return {name: Scores(*values) for name, values in results.items()}, waited

    def _learn(
        self,
        step: int,
        now: int,
        results: Mapping[str, Scores],
        log: Log,
        waited: float | None = None,
    ) -> dict[str, float]:
        """Makes the scores of the weights of `step` take effect at step `now`."""
        metric = self._settings.metric
        scores = self._enter(step, results, log, None if waited is None else now)
        if step > self.evaluated_step:
            consumed = now * self._accumulation
            self._mixture.update(consumed)
            self.evaluated_step = step
            self.stopping.observe(step, scores)
            probabilities = self._mixture.probabilities(consumed)
            self._events.evaluation(
                step,
                results,
                self._ratios(),
                metric,
                dict(zip(self._mixture.task_names, probabilities, strict=True)),
                None if waited is None else now,
                waited,
            )
        return scores

    def _enter(
        self, step: int, results: Mapping[str, Scores], log: Log, effect: int | None = None
    ) -> dict[str, float]:
        """Enters the scores in the score book and logs a line; returns them by task."""
        metric, scores = self._settings.metric, self._scores(results)
        self._mixture.adaptive.enter_scores(
            step, {name: schedule_score(metric, score) for name, score in scores.items()}
        )
        places = decimals(metric)
        shown = "  ".join(f"{name} {scores[name]:.{places}f}" for name in self._validated[:8])
        ellipsis = "  …" if len(self._validated) > 8 else ""
        when = f"step {step:,}" if effect is None else f"step {step:,}, in effect from {effect:,}"
        mean = f"{self._macro(results):.{places + 1}f}"
        log(f"{when}: {metric} {mean} averaged over tasks: {shown}{ellipsis}")
        return scores

    def _ratios(self) -> dict[str, float] | None:
        """Returns score / baseline by validated task; None if any task has no baseline."""
        ratios = self._mixture.adaptive.ratios()
        return None if ratios is None else {name: ratios[name] for name in self._validated}

    @functools.cached_property
    def _evaluator(self) -> Evaluator:
        return model_evaluator(
            self._settings, self._decoding, self._tasks, self._model, self._prepared
        )

    @functools.cached_property
    def _tasks(self) -> list[TranslationTask]:
        return translation_tasks(self._sharing, self._prepared)

    def collect(self) -> dict[str, np.ndarray]:
        """Returns the state for a checkpoint; `restore` reads it."""
        state = {**self.best.collect(self._mixture.task_names), **self.stopping.collect()}
        state["validated"] = self._is_validated()
        if self.pending:
            state["pending"] = np.array([self.pending.step, self.pending.due], np.int64)
        return state

    def check(self, state: Mapping[str, np.ndarray]) -> None:
        """Raises CheckpointError if the weights that a checkpoint's state needs are missing."""
        if snapshot := _pending(state):
            self._snapshots.check(snapshot)

    def restore(
        self,
        state: Mapping[str, np.ndarray],
        index_map: np.ndarray,
        evaluated_step: int,
        same_metric: bool,
        log: Log,
    ) -> None:
        """Restores a state.

        Args:
            state: the arrays from `collect`, possibly among others.
            index_map: int64 [N], the saved index of each current task, -1 for a new one.
            evaluated_step: the saved attribute.
            same_metric: whether the state's scores use the metric of this run.
            log: function that receives a line if the best score is forgotten.
        """
        self.best.restore(state, self._mixture.task_names, index_map)
        other_tasks = self._averages_other_tasks(state, index_map)
        if not same_metric:
            self.best.forget()
        elif other_tasks and self.best.step >= 0:
            log("the tasks have changed since the checkpoint, so its best score is forgotten")
            self.best.forget_averages()
        self.stopping.restore(state if same_metric else {}, not other_tasks)
        self.evaluated_step = evaluated_step
        self.pending = _pending(state)

    def _is_validated(self) -> np.ndarray:
        """Returns which tasks are validated, bool [N]."""
        return np.array([name in self._validated for name in self._mixture.task_names])

    def _averages_other_tasks(self, state: Mapping[str, np.ndarray], index_map: np.ndarray) -> bool:
        """Returns whether a state's average score covers other tasks than those of this run."""
        # Older versions validated every task.
        was = (
            state["validated"] if "validated" in state else np.ones_like(state["book/steps"], bool)
        )
        if sorted(index_map) != list(range(len(was))):
            return True
        return bool((was[index_map] != self._is_validated()).any())


def _plain(result: Scored) -> tuple[dict[str, float], float]:
    """Returns what training needs of a result, in plain types."""
    scores = {name: float(value) for name, value in result.scores.items()}
    return scores, float(result.seconds)


def _pending(state: Mapping[str, np.ndarray]) -> Snapshot | None:
    return Snapshot(*map(int, state["pending"])) if "pending" in state else None
