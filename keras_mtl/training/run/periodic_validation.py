"""Validation during a run: its schedule, the validated weights and the use of the scores."""

import contextlib
import functools
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mtl.configuration.keeping import MACRO
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.prepare import PreparedData
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.evaluation.background import BackgroundEvaluation, Results
from keras_mtl.evaluation.evaluator import Evaluator
from keras_mtl.evaluation.noisy_pairs import with_noise
from keras_mtl.evaluation.pairs import PairSet
from keras_mtl.evaluation.run_evaluators import engine_evaluator, model_evaluator
from keras_mtl.evaluation.stopping import EvaluationStopped
from keras_mtl.evaluation.task_metrics import TaskMetrics
from keras_mtl.evaluation.tasks import translation_tasks
from keras_mtl.export.engine_file import export_engine_file
from keras_mtl.metrics import decimals, schedule_score
from keras_mtl.models.variables import variables_by_name
from keras_mtl.training.run.averaged_weights import averaged_weights
from keras_mtl.training.run.best_weights import BestWeights
from keras_mtl.training.run.building import check_dev_sizes
from keras_mtl.training.run.directory import RunDirectory
from keras_mtl.training.run.early_stopping import EarlyStopping
from keras_mtl.training.run.event_log import EventLog, Scores, plain
from keras_mtl.training.run.planning import TrainingPlan
from keras_mtl.training.run.plateau_decay import PlateauDecay
from keras_mtl.training.run.selected_scores import SelectedScores
from keras_mtl.training.run.snapshots import ENGINE_FILE, Snapshot, Snapshots
from keras_mtl.training.run.validation_rounds import ValidationRounds, share_of_worker
from keras_mtl.training.step.learning_rate import decay_of
from keras_mtl.training.step.workers import Workers

Log = Callable[[str], None]
Stopped = Callable[[], bool]

# Interval at which workers that wait for scores ask each other whether to stop.
_SECONDS_BETWEEN_LOOKS = 0.2


class PeriodicValidation:
    """Validates the tasks, updates the schedule, keeps the best weights and writes the log.

    With `trainer.evaluation.lag`, the engine validates the weights of step s in a background
    thread, and the scores take effect exactly at step s + lag, where training waits for them if
    necessary. At most one validation runs at a time: its scores take effect before the next one
    starts and before training ends.

    Each worker of a run evaluates its share of the tasks, and all of them learn all scores.

    Args:
        plan: the plan of the training.
        prepared: the prepared store.
        model: the model.
        optimizer: its optimizer; if it averages the weights, the averages are validated.
        mixture: the mixture whose schedule uses the scores.
        directory: the run's directory.
        events: the run's log.
        workers: the processes of the run; the chief writes for all.

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
        self._train_steps = plan.config.trainer.train_steps
        self._accumulation = plan.config.trainer.optimizer.gradient_accumulation_steps
        self._validated = plan.validated
        self._prepared = prepared
        self._task_config = plan.config.task
        self._model = model
        self._optimizer = optimizer
        self._mixture = mixture
        self._directory = directory
        self._events = events
        self._snapshots = Snapshots(directory.pending)
        self._background = BackgroundEvaluation()
        self._own_files: tempfile.TemporaryDirectory[str] | None = None
        self._metrics = TaskMetrics.of(plan.config)
        self._rounds = ValidationRounds(
            mixture.task_names, plan.validated, self._metrics.by_task, self._settings.max_tasks
        )
        baselines = plan.schedule.baselines if plan.schedule else None
        self._selected = selected = SelectedScores(self._metrics, plan.validated, baselines)
        trainer = plan.config.trainer
        self.best = BestWeights(
            directory.best, self._metrics.label, selected, trainer.best, workers.chief
        )
        self.stopping = EarlyStopping(trainer.stopping, selected)
        self._plateau = PlateauDecay(trainer.optimizer.plateau, selected, decay_of(optimizer))
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
            The score of the task's metric by task.

        Raises:
            EvaluationStopped: `stopped` returned True; nothing has changed.
        """
        tasks = self._rounds.choose(step, step == self._train_steps)
        with averaged_weights(self._model, self._optimizer, step):
            self._write_histograms(step)
            results = self._evaluate(tasks, step, stopped)
            scores = self._rounds.scores(results)
            self._workers.together(lambda: self.best.write(step, scores, self._model, results))
        return self._learn(step, step, results, log)

    def score(self, step: int, log: Log) -> None:
        """Validates the current weights and logs the scores without changing files or schedule."""
        with averaged_weights(self._model, self._optimizer, step):
            self._enter(step, self._evaluate(self._validated, step), log)

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
        """Continues from a checkpoint: its best weights, and the validation that was running.

        Args:
            validates: whether this run validates; if not, that validation is dropped.
            log: function that receives a line if it is dropped.
        """
        self.best.resume(self.evaluated_step)
        if self.pending and validates:
            self._start(self.pending)
        elif self.pending:
            log(f"the validation of step {self.pending.step:,} is dropped: this run has none")
            self.pending = None

    def close(self) -> None:
        """Stops a background validation; a run that resumes from a checkpoint repeats it."""
        self._background.stop()
        self._delete_own_files()

    def _delete_own_files(self) -> None:
        if self._own_files:
            self._own_files.cleanup()
            self._own_files = None

    def prune(self, checkpoints: Callable[[], Sequence[int]]) -> None:
        """Deletes the snapshots that neither a checkpoint nor the pending validation needs."""
        if self._workers.chief:
            self._snapshots.prune(checkpoints, self.pending)

    def _begin(self, snapshot: Snapshot) -> None:
        writes = self._workers.chief or bool(self._share(self._tasks_of(snapshot)))
        with averaged_weights(self._model, self._optimizer, snapshot.step):
            self._write_histograms(snapshot.step)
            self._workers.together((lambda: self._write(snapshot)) if writes else None)
        self.pending = snapshot
        self._start(snapshot)

    def _write_histograms(self, step: int) -> None:
        if self._settings.histograms and self._workers.chief:
            arrays = {name: v.numpy() for name, v in variables_by_name(self._model).items()}
            self._events.histograms(step, arrays)

    def _write(self, snapshot: Snapshot) -> None:
        """Writes the current weights for the validation of a snapshot."""
        model, vocabulary = self._model, self._prepared.vocabulary
        compute_type = self._settings.compute_type
        if self._workers.chief:
            self._snapshots.write(snapshot, model, vocabulary, self._tasks, compute_type)
            return
        # All workers have the same weights, but the chief's file may reach the others late, or only
        # with the next checkpoint.
        self._own_files = tempfile.TemporaryDirectory(prefix="keras_mtl-")
        path = Path(self._own_files.name) / ENGINE_FILE
        export_engine_file(model, vocabulary, self._tasks, path, weight_type=compute_type)

    def _tasks_of(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Returns the tasks of a validation; the same until its scores take effect."""
        return self._rounds.choose(snapshot.step, snapshot.step == self._train_steps)

    def _share(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """Returns those of some tasks that this worker evaluates."""
        sizes = {
            task.name: min(task.dev_size, self._settings.max_pairs)
            for task in self._prepared.tasks
            if task.name in tasks
        }
        return share_of_worker(sizes, self._workers.count, self._workers.index)

    def _evaluate(
        self, tasks: Sequence[str], step: int, stopped: Stopped | None = None
    ) -> dict[str, Scores]:
        """Returns the scores of tasks with the current weights, evaluated by all workers.

        Raises:
            EvaluationStopped: a worker was asked to stop.
        """
        share = self._share(tasks)
        return self._from_all(
            lambda: self._evaluator.evaluate(stopped=stopped, tasks=share) if share else {}, step
        )

    def _start(self, snapshot: Snapshot) -> None:
        """Starts to evaluate this worker's share of the tasks in the background."""
        share = self._share(self._tasks_of(snapshot))
        path = self._snapshots.engine_file(snapshot)
        if self._own_files:
            path = Path(self._own_files.name) / ENGINE_FILE

        def evaluate(stopped: Callable[[], bool]) -> Results:
            evaluator = engine_evaluator(
                self._settings,
                self._decoding,
                self._tasks,
                path,
                self._pairs,
                task_metrics=self._metrics,
            )
            return evaluator.evaluate(stopped=stopped, tasks=share)

        if share:
            self._background.start(evaluate)

    def _take_effect(self, step: int, log: Log, stopped: Stopped | None) -> None:
        assert self.pending is not None  # the caller has checked this
        begin = time.perf_counter()
        if not self._wait(stopped):
            raise EvaluationStopped(f"step {self.pending.step}")
        results = self._from_all(self._background.result, self.pending.step)
        waited = time.perf_counter() - begin
        snapshot, self.pending = self.pending, None
        self._delete_own_files()
        scores = self._rounds.scores(results)
        self._workers.together(lambda: self.best.keep(snapshot, scores, self._snapshots, results))
        self._learn(snapshot.step, step, results, log, waited)

    def _wait(self, stopped: Stopped | None) -> bool:
        """Waits until the evaluations of all workers have ended, or that of one has failed.

        Returns:
            False if a worker was asked to stop; its evaluation then continues.
        """
        while True:
            ended = self._background.wait(_SECONDS_BETWEEN_LOOKS)
            stops = stopped is not None and stopped()
            states = self._workers.exchange([ended, self._background.failed(), stops])
            if any(failed for _, failed, _ in states) or all(ended for ended, _, _ in states):
                return True
            if any(stops for _, _, stops in states):
                return False

    def _from_all(self, evaluate: Callable[[], Results], step: int) -> dict[str, Scores]:
        """Returns the results of all workers.

        Args:
            evaluate: returns the results of this worker.
            step: step of the weights that are validated.

        Raises:
            EvaluationStopped: a worker was asked to stop.
        """

        def encoded() -> dict[str, Any] | None:
            with contextlib.suppress(EvaluationStopped):
                return {name: plain(result) for name, result in evaluate().items()}
            return None

        found = self._workers.exchange(self._workers.together(encoded))
        if None in found:
            raise EvaluationStopped(f"step {step}")
        merged = {name: Scores(*values) for part in found for name, values in part.items()}
        return {name: merged[name] for name in self._validated if name in merged}

    def _learn(
        self,
        step: int,
        now: int,
        results: Mapping[str, Scores],
        log: Log,
        waited: float | None = None,
    ) -> dict[str, float]:
        """Makes the scores of the weights of `step` take effect at step `now`."""
        scores = self._enter(step, results, log, None if waited is None else now)
        if step > self.evaluated_step:
            consumed = now * self._accumulation
            self._mixture.update(consumed)
            self.evaluated_step = step
            self._observe(step, results, log)
            probabilities = self._mixture.probabilities(consumed)
            self._events.evaluation(
                step,
                results,
                self._ratios(results),
                self._metrics.main,
                dict(zip(self._mixture.task_names, probabilities, strict=True)),
                None if waited is None else now,
                waited,
                None if self._rounds.is_complete(results) else self._rounds.averages(results),
            )
        return scores

    def _observe(self, step: int, results: Mapping[str, Scores], log: Log) -> None:
        """Counts a validation for early stopping and for the decay of the learning rate."""
        latest = self._rounds.scores(results)
        self.stopping.observe(step, latest, results)
        factor = self._plateau.observe(step, latest, results)
        if factor is not None:
            log(f"step {step:,}: a plateau; the learning rate is now multiplied by {factor:.4g}")

    def _enter(
        self, step: int, results: Mapping[str, Scores], log: Log, effect: int | None = None
    ) -> dict[str, float]:
        """Enters the scores in the score book and logs a line; returns them by task."""
        metrics = self._metrics
        scores = {name: result.scores[metrics.by_task[name]] for name, result in results.items()}
        self._mixture.adaptive.enter_scores(
            step,
            {name: schedule_score(metrics.by_task[name], score) for name, score in scores.items()},
        )
        self._rounds.enter(step, results)
        shown = "  ".join(
            f"{name} {scores[name]:.{decimals(metrics.by_task[name])}f}"
            + (f" ({metrics.by_task[name]})" if metrics.differ else "")
            for name in list(scores)[:8]
        )
        ellipsis = "  …" if len(scores) > 8 else ""
        when = f"step {step:,}" if effect is None else f"step {step:,}, in effect from {effect:,}"
        average = self._selected.value(MACRO, self._rounds.scores(results))
        mean = f"{average:.{metrics.average_decimals}f}"
        over = "tasks"
        if not self._rounds.is_complete(results):
            over = f"{len(self._validated)} tasks, {len(scores)} of them validated"
        log(f"{when}: {metrics.average_title} {mean} averaged over {over}: {shown}{ellipsis}")
        return scores

    def _ratios(self, tasks: Iterable[str]) -> dict[str, float] | None:
        """Returns score / baseline of some tasks; None if any task has no baseline."""
        ratios = self._mixture.adaptive.ratios()
        return None if ratios is None else {name: ratios[name] for name in tasks}

    @functools.cached_property
    def _evaluator(self) -> Evaluator:
        return model_evaluator(
            self._settings,
            self._decoding,
            self._tasks,
            self._model,
            self._pairs,
            task_metrics=self._metrics,
        )

    @functools.cached_property
    def _tasks(self) -> list[TranslationTask]:
        return translation_tasks(self._task_config.model, self._task_config.pairs)

    @functools.cached_property
    def _pairs(self) -> PairSet:
        """What is scored: dev pairs, with the noise of denoising tasks."""
        return with_noise(self._prepared, self._task_config.pairs)

    def collect(self) -> dict[str, np.ndarray]:
        """Returns the state for a checkpoint; `restore` reads it."""
        state = {**self.best.collect(self._mixture.task_names), **self.stopping.collect()}
        state |= self._plateau.collect()
        state |= self._selected.collect(self._mixture.task_names)
        state |= self._rounds.collect()
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
        others, changed = self._selected.other_scores(state, self._mixture.task_names, index_map)
        if not same_metric:
            self.best.forget()
        elif self.best.forget(others):
            which = "" if MACRO in others else " of the worst task"
            log(
                f"the {changed} have changed since the checkpoint, so its best score{which} is "
                "forgotten"
            )
        self.stopping.restore(state if same_metric else {}, others)
        self._plateau.restore(state, same_metric, others)
        self._rounds.restore(state, index_map, same_metric)
        self.evaluated_step = evaluated_step
        self.pending = _pending(state)


def _pending(state: Mapping[str, np.ndarray]) -> Snapshot | None:
    return Snapshot(*map(int, state["pending"])) if "pending" in state else None
