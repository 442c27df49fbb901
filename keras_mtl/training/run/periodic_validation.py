"""Validation during a run: when, of which weights, and what follows from the scores."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.prepare import PreparedData
from keras_mtl.engine import NativeError, library
from keras_mtl.errors import ConfigError
from keras_mtl.evaluation.background import BackgroundEvaluation, Results
from keras_mtl.evaluation.evaluator import Evaluator
from keras_mtl.evaluation.run_evaluators import engine_evaluator, model_evaluator
from keras_mtl.evaluation.stopping import EvaluationStopped
from keras_mtl.evaluation.tasks import translation_tasks
from keras_mtl.metrics import decimals, schedule_score
from keras_mtl.training.run.averaged_weights import averaged_weights
from keras_mtl.training.run.best_weights import BestWeights
from keras_mtl.training.run.building import check_dev_sizes, validated_tasks
from keras_mtl.training.run.directory import RunDirectory
from keras_mtl.training.run.event_log import EventLog
from keras_mtl.training.run.snapshots import Snapshot, Snapshots

Log = Callable[[str], None]
Stopped = Callable[[], bool]


def check_lag(config: ExperimentConfig) -> None:
    """Raises ConfigError if validation is asynchronous and the engine is not available."""
    lag = config.trainer.evaluation.lag
    if not lag:
        return
    try:
        library.core()
    except NativeError as error:
        raise ConfigError(
            f"trainer.evaluation.lag is {lag}, and only the engine can validate during training: "
            f"{error}; or set trainer.evaluation.lag to 0"
        ) from error


class PeriodicValidation:
    """Validates the tasks, updates the schedule, keeps the best weights, writes the log.

    With `trainer.evaluation.lag` the weights of step s are validated by the engine in a thread,
    and the scores take effect exactly at step s + lag: training waits there until they are known.
    At most one validation runs at a time: its result takes effect before the next one begins, and
    before the end of training.

    Args:
        config: the experiment.
        prepared: the prepared store.
        model: the model.
        optimizer: its optimizer; if it keeps averages of the weights, these are validated.
        mixture: learns the scores; they are entered in its `adaptive`.
        directory: the run's directory.
        events: the run's log.

    Attributes:
        best: the best weights whose scores are in effect.
        evaluated_step: step of the weights whose scores are in effect, -1 before the first.
        pending: the validation that is not in effect yet.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        prepared: PreparedData,
        model: Any,
        optimizer: Any,
        mixture: Mixture,
        directory: RunDirectory,
        events: EventLog,
    ) -> None:
        self._config = config
        self._settings = config.trainer.evaluation
        self._prepared = prepared
        self._validated = validated_tasks(config)
        self._model = model
        self._optimizer = optimizer
        self._mixture = mixture
        self._directory = directory
        self._events = events
        self._snapshots = Snapshots(directory.pending)
        self._background = BackgroundEvaluation()
        self.best = BestWeights(directory.best, self._settings.metric)
        self.evaluated_step = -1
        self.pending: Snapshot | None = None

    def next_stop(self, step: int) -> int:
        """Returns the next step after `step` at which `run_due` has something to do."""
        interval = self._settings.interval
        stop = self._config.trainer.train_steps
        if interval:
            stop = min(stop, (step // interval + 1) * interval)
        return min(stop, max(step + 1, self.pending.due)) if self.pending else stop

    def run_due(self, step: int, log: Log, stopped: Stopped | None = None) -> bool:
        """Does what is due at a step.

        Args:
            step: the step.
            log: gets a line when scores take effect.
            stopped: polled for whether to stop waiting or evaluating; None: never. What has taken
                effect by then stays; the next call, also of the next run, does the rest.

        Returns:
            Whether scores took effect, so that batches have to be read again.

        Raises:
            EvaluationStopped: `stopped` said so.
        """
        last = step == self._config.trainer.train_steps
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
        """Validates the weights as they are now; the scores take effect at once.

        Args:
            step: updates done.
            log: gets a line with the scores.
            stopped: asked often whether to stop; None: never.

        Returns:
            The score by task of `trainer.evaluation.metric`.

        Raises:
            EvaluationStopped: `stopped` said so; nothing has changed.
        """
        with averaged_weights(self._model, self._optimizer, step):
            results = self._evaluator.evaluate(stopped=stopped)
            self.best.write(step, self._macro(results), self._model)
        return self._learn(step, step, results, log)

    def score(self, step: int, log: Log) -> None:
        """Validates the present weights and logs the scores; changes no files and no schedule."""
        with averaged_weights(self._model, self._optimizer, step):
            self._enter(step, self._evaluator.evaluate(), log)

    def check_pairs(self, log: Log) -> None:
        """Checks before any step is taken that every validated task has dev pairs.

        Args:
            log: gets a warning about tasks with few dev pairs.

        Raises:
            DataError: a task has none.
        """
        for warning in check_dev_sizes(self._validated, self._prepared):
            log(f"warning: {warning}")

    def resume(self, validates: bool, log: Log) -> None:
        """Restarts the validation that was running when the checkpoint was saved.

        Args:
            validates: whether this run validates at all; if not, that validation is left out.
            log: gets a line if it is left out.
        """
        if self.pending and validates:
            self._start(self.pending)
        elif self.pending:
            log(f"the validation of step {self.pending.step:,} is left out: this run has none")
            self.pending = None

    def close(self) -> None:
        """Stops a validation in the background; a run that resumes from a checkpoint repeats it."""
        self._background.stop()

    def prune(self, checkpoints: Callable[[], Sequence[int]]) -> None:
        """Deletes the snapshots that neither a checkpoint nor the pending validation needs."""
        self._snapshots.prune(checkpoints, self.pending)

    def _begin(self, snapshot: Snapshot) -> None:
        with averaged_weights(self._model, self._optimizer, snapshot.step):
            self._snapshots.write(
                snapshot,
                self._model,
                self._prepared.vocabulary,
                translation_tasks(self._config, self._prepared),
                self._settings.compute_type,
            )
        self.pending = snapshot
        self._start(snapshot)

    def _start(self, snapshot: Snapshot) -> None:
        path = self._snapshots.engine_file(snapshot)

        def evaluate(stopped: Callable[[], bool]) -> Results:
            evaluator = engine_evaluator(self._config, path, self._prepared)
            return evaluator.evaluate(stopped=stopped)

        self._background.start(evaluate)

    def _take_effect(self, step: int, log: Log, stopped: Stopped | None) -> None:
        assert self.pending is not None  # looked at by the caller
        found = self._background.result(stopped)
        if found is None:
            raise EvaluationStopped(f"step {self.pending.step}")
        results, waited = found
        snapshot, self.pending = self.pending, None
        self.best.keep(snapshot, self._macro(results), self._snapshots)
        self._learn(snapshot.step, step, results, log, waited)

    def _macro(self, results: Results) -> float:
        return float(np.mean(list(self._scores(results).values())))

    def _scores(self, results: Results) -> dict[str, float]:
        return {name: results[name].scores[self._settings.metric] for name in self._validated}

    def _learn(
        self, step: int, now: int, results: Results, log: Log, waited: float | None = None
    ) -> dict[str, float]:
        """Lets the scores of the weights of `step` take effect at the step `now`."""
        metric = self._settings.metric
        scores = self._enter(step, results, log, None if waited is None else now)
        if step > self.evaluated_step:
            consumed = now * self._config.trainer.optimizer.gradient_accumulation_steps
            self._mixture.update(consumed)
            self.evaluated_step = step
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
        self, step: int, results: Results, log: Log, effect: int | None = None
    ) -> dict[str, float]:
        """Enters the scores and logs a line; returns them by task."""
        metric, scores = self._settings.metric, self._scores(results)
        self._mixture.adaptive.enter_scores(
            step, {name: schedule_score(metric, score) for name, score in scores.items()}
        )
        places = decimals(metric)
        shown = "  ".join(f"{name} {scores[name]:.{places}f}" for name in self._validated[:8])
        more = "  …" if len(self._validated) > 8 else ""
        when = f"step {step:,}" if effect is None else f"step {step:,}, in effect from {effect:,}"
        mean = f"{self._macro(results):.{places + 1}f}"
        log(f"{when}: {metric} {mean} on average over tasks: {shown}{more}")
        return scores

    def _ratios(self) -> dict[str, float] | None:
        """Returns score / baseline by validated task, None if any task has no baseline."""
        ratios = self._mixture.adaptive.ratios()
        return None if ratios is None else {name: ratios[name] for name in self._validated}

    @functools.cached_property
    def _evaluator(self) -> Evaluator:
        return model_evaluator(self._config, self._model, self._prepared)

    def collect(self) -> dict[str, np.ndarray]:
        """Returns what `restore` needs, for a checkpoint."""
        state = self.best.collect()
        state["validated"] = self._is_validated()
        if self.pending:
            state["pending"] = np.array([self.pending.step, self.pending.due], np.int64)
        return state

    def check(self, state: Mapping[str, np.ndarray]) -> None:
        """Raises CheckpointError when the weights that a checkpoint's state needs are missing."""
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
            state: of `collect`, maybe with more in it.
            index_map: int64[N], the saved index of each present task, -1 for a new one.
            evaluated_step: as it was.
            same_metric: whether the state's scores are of the metric of this run.
            log: gets a line if the best average is forgotten.
        """
        self.best.restore(state)
        if not same_metric:
            self.best.forget()
        elif self._averages_other_tasks(state, index_map) and self.best.step >= 0:
            log("the tasks changed since the checkpoint; its best average is forgotten")
            self.best.forget()
        self.evaluated_step = evaluated_step
        self.pending = _pending(state)

    def _is_validated(self) -> np.ndarray:
        """Returns which tasks are validated, bool[N]."""
        return np.array([name in self._validated for name in self._mixture.task_names])

    def _averages_other_tasks(self, state: Mapping[str, np.ndarray], index_map: np.ndarray) -> bool:
        """Whether the average score of a state is over other tasks than the average of this run."""
        # Older versions validated every task.
        was = (
            state["validated"] if "validated" in state else np.ones_like(state["book/steps"], bool)
        )
        if sorted(index_map) != list(range(len(was))):
            return True
        return bool((was[index_map] != self._is_validated()).any())


def _pending(state: Mapping[str, np.ndarray]) -> Snapshot | None:
    return Snapshot(*map(int, state["pending"])) if "pending" in state else None
