"""A training run: train, validate every task, update the schedule, save, and repeat.

Steps run in loops of `trainer.steps_per_loop` steps. Every few seconds, control leaves the loop to
show progress and to check for signals. The events and losses that are recorded at the end of a loop
depend only on its steps, even if the run was stopped and resumed within the loop.
"""

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_mtl.configuration.schema import as_dict
from keras_mtl.data.prepare import PreparedData
from keras_mtl.errors import CheckpointError
from keras_mtl.evaluation.noisy_pairs import with_noise
from keras_mtl.evaluation.stopping import EvaluationStopped
from keras_mtl.evaluation.task_metrics import TaskMetrics
from keras_mtl.evaluation.tasks import translation_tasks
from keras_mtl.files import replace_file
from keras_mtl.interrupts import StopRequest, stop_on_signals
from keras_mtl.metrics import schedule_score
from keras_mtl.models.factory import check_sublayers
from keras_mtl.run_files import MODEL_FILE
from keras_mtl.training.run.batch_log import BatchLog
from keras_mtl.training.run.checkpoints import RunCheckpoints
from keras_mtl.training.run.directory import RunDirectory
from keras_mtl.training.run.event_log import EventLog
from keras_mtl.training.run.first_weights import take_first_weights
from keras_mtl.training.run.loop_log import LoopLog
from keras_mtl.training.run.measurements import build_measurements
from keras_mtl.training.run.mirror import local_run_directory
from keras_mtl.training.run.model_analysis import model_analysis
from keras_mtl.training.run.parts import build_parts
from keras_mtl.training.run.periodic_validation import PeriodicValidation
from keras_mtl.training.run.planning import TrainingPlan
from keras_mtl.training.run.progress import Progress
from keras_mtl.training.run.setup import prepare_task_data
from keras_mtl.training.run.state import RunState
from keras_mtl.training.run.step_loop import OpenLoop, Pace, SaveClock
from keras_mtl.training.run.weight_sources import check_sources
from keras_mtl.training.step import devices
from keras_mtl.training.step.balancing import check_balancing
from keras_mtl.training.step.distribution import compiles_with_xla, configure_runtime
from keras_mtl.training.step.keras_optimizers import check_optimizer
from keras_mtl.training.step.workers import AgreedStop, Workers


@dataclasses.dataclass
class RunResult:
    """The result of a run.

    Attributes:
        step: number of training steps.
        scores: latest validation score by task, in the unit of its metric; empty if nothing was
            validated.
        best_score: best score averaged over tasks; NaN if nothing was validated.
        best_step: step of the best score; -1 if nothing was validated.
        batches: number of consumed batches by task, or of examples if batches are mixed.
        chief: whether this process reports the result; False for other workers of a run.
        skipped: number of steps that were skipped because of their gradient.
        stopped_early: whether training ended because of `trainer.stopping`.
    """

    step: int
    scores: dict[str, float]
    best_score: float
    best_step: int
    batches: dict[str, int]
    skipped: int
    chief: bool = True
    stopped_early: bool = False


def run_experiment(
    plan: TrainingPlan, model_dir: str | os.PathLike[str], log: Callable[[str], None] = print
) -> RunResult:
    """Runs an experiment until step `trainer.train_steps`.

    Args:
        plan: the checked configuration and the decisions that follow from it. Its mode is `train`
            (no validation), `train_and_eval`, or `eval` (validate the newest checkpoint once and do
            not change the directory).
        model_dir: directory of the run, or its URL. If it contains checkpoints, the run resumes
            from the newest one, with the same tasks, batches and random numbers as without an
            interruption.
        log: function that receives lines for the user.

    Returns:
        The `RunResult`.

    Raises:
        ConfigError: a balancing method or a sub-layer is invalid.
        DataError: the corpora or the prepared data cannot be used.
        CheckpointError: `model_dir` belongs to another configuration, none of its checkpoints can
            be read, or a checkpoint cannot be written.
    """
    check_balancing(plan.config.trainer.balancing, plan.updates)
    workers = Workers(configure_runtime(plan.config.runtime, log))
    if not workers.chief:
        log = _silent
    with workers.reporting():
        return _run(plan, model_dir, workers, log)


def _run(
    plan: TrainingPlan,
    model_dir: str | os.PathLike[str],
    workers: Workers,
    log: Callable[[str], None],
) -> RunResult:
    """Runs the part of one process; see `run_experiment`."""
    task, runtime = plan.config.task, plan.config.runtime
    if workers.count > 1:
        workers.check_same("the configuration", as_dict(plan.config))
    for line in devices.describe(runtime, compiles_with_xla(runtime)):
        log(line)
    # After the configuration of the runtime, because these checks use TensorFlow.
    check_optimizer(plan.config.trainer.optimizer)
    check_sublayers(task.model, runtime.mixed_precision_dtype)
    writes = plan.mode != "eval" and workers.chief
    place = local_run_directory(model_dir, writes, log, workers.index)
    with place as (directory, after_save):
        if plan.mode != "eval" and not RunDirectory(directory).has_checkpoint:
            check_sources(task.model.init)
        prepared = workers.chief_first(lambda: prepare_task_data(task, model_dir, log=log))
        workers.check_same("the prepared data", _fingerprint(prepared))
        return Run(plan, directory, prepared, workers, log, after_save).execute()


def _silent(line: str) -> None:
    pass


def _fingerprint(prepared: PreparedData) -> dict[str, str]:
    """Returns hashes that must be equal on all workers: of the vocabulary and the pairs."""
    stores = {task.name: prepared.reader(task.name, "train").checksum for task in prepared.tasks}
    return {"vocabulary": prepared.vocabulary.hash, **stores}


class Run:
    """One run in one process, or the part of one of several workers.

    Args:
        plan: the plan of the training.
        model_dir: directory of the run.
        prepared: the prepared data.
        workers: the processes of the run.
        log: function that receives lines for the user.
        after_save: called after each checkpoint.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        model_dir: Path,
        prepared: PreparedData,
        workers: Workers,
        log: Callable[[str], None],
        after_save: Callable[[], None] = lambda: None,
    ):
        self.plan = plan
        self.prepared = prepared
        self.log = log
        self.workers = workers
        self.directory = RunDirectory(model_dir)
        for change in self.directory.check(plan.config, prepared):
            log(f"changed since the last run: {change}")
        for line in plan.notes:
            log(line)
        if plan.updates.warning:
            log(f"warning: {plan.updates.warning}")
        self.parts = parts = build_parts(plan, prepared, workers)
        workers.check_same("the shapes of batches", list(map(str, parts.mixture.buckets)))
        self.events = EventLog(self.directory.path, writes=workers.chief)
        self.validation = PeriodicValidation(
            plan,
            prepared,
            parts.model,
            parts.optimizer,
            parts.mixture,
            self.directory,
            self.events,
            workers,
        )
        trainer = plan.config.trainer
        logs_batches = trainer.log_batches and workers.chief
        batches = BatchLog(self.directory.path) if logs_batches else None
        self.loop_log = LoopLog(parts, self.validation, self.events, batches)
        self._measure = build_measurements(
            parts.schedule.measures,
            parts.model,
            workers,
            translation_tasks(plan.config.task.model, plan.config.task.pairs),
            with_noise(prepared, plan.config.task.pairs),
            plan.config.runtime.seed,
        )
        self.state = RunState(parts, self.validation)
        self.checkpoints = RunCheckpoints(
            self.directory.path,
            self.state.checkpoint,
            trainer.max_to_keep,
            log,
            self.state.read,
            trainer.async_checkpointing,
            after_save,
        )
        self._save_clock = SaveClock(trainer.checkpoint_minutes)
        self._pace = Pace()
        self._notes: list[str] = []
        self._stop = AgreedStop(workers, StopRequest())

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return self.parts.step

    def execute(self) -> RunResult:
        """Restores the newest checkpoint, then trains and validates according to the mode."""
        with contextlib.ExitStack() as stack:
            if self.plan.mode != "eval":
                self.workers.on_chief(lambda: stack.enter_context(self.directory.locked()))
            result = self._execute(self.plan.mode)
            # A worker that ends earlier would look lost to the others.
            self.workers.barrier()
            return result

    def _execute(self, mode: str) -> RunResult:
        self.state.validates = mode == "train_and_eval"
        if mode != "train":
            self.validation.check_pairs(self.log)
        tidy = mode != "eval" and self.workers.chief
        prefix = self.workers.chief_first(lambda: self.checkpoints.restore(tidy))
        self.workers.check_same("the step of the newest checkpoint", self.step)
        if prefix:
            self.state.restore(self.log)
            self.log(f"resuming from {prefix} at step {self.step:,}")
        elif mode == "eval":
            raise CheckpointError(f"{self.directory.path} contains no checkpoint to evaluate")
        if mode == "eval":
            self.validation.score(self.step, self.log)
            return self._result()
        if not prefix:
            self._take_first_weights()
        self.workers.on_chief(self._write_settings)
        self.loop_log.resume(self.step)
        if self.plan.config.task.data.packing:
            self.log(f"packed batches: {self.parts.mixture.buckets[0]}")
        waste = self.parts.mixture.padding_waste()
        self.log(f"padding: {waste:.1%} of the tokens in batches")
        with (
            Progress(
                self.plan.config.trainer.train_steps, self.step, shown=self.workers.chief
            ) as progress,
            stop_on_signals(progress.message) as request,
            self.events,
            contextlib.closing(self.validation),
            contextlib.closing(self.checkpoints),
        ):
            self._stop = AgreedStop(self.workers, request)
            self._train(progress)
        return self._result()

    def _write_settings(self) -> None:
        self.directory.write(self.plan.config, self.prepared)
        replace_file(self.directory.path / MODEL_FILE, model_analysis(self.parts.model))

    def _take_first_weights(self) -> None:
        """Starts a new run from `task.model.init`."""
        parts, sources = self.parts, self.plan.config.task.model.init
        if not sources:
            return
        vocabulary = self.prepared.vocabulary
        found = take_first_weights(parts.model, vocabulary, sources, parts.optimizer, log=self.log)
        self.workers.check_same("the initial weights", found.record)
        self.workers.on_chief(lambda: found.write(self.directory.path))
        for line in found.lines:
            self.log(line)

    def _train(self, progress: Progress) -> None:
        state, trainer = self.state, self.plan.config.trainer
        if state.open_loop:
            self.parts.trainer.restore_totals(state.open_loop.sums)
        self.parts.read_from(self.step)
        if self.step == 0 and not state.open_loop:
            self._update_schedule()
        self.validation.resume(state.validates, progress.message)
        while state.validation_due or not (self._stops_early() or self.step >= trainer.train_steps):
            left_over = state.validation_due  # The previous run was stopped before it.
            if not left_over:
                self._run_loop(progress)
            progress.pause()
            if not state.open_loop:
                self._validate(progress)
            step, stops = self.step, self._stop()
            due = step == trainer.train_steps or step % trainer.checkpoint_interval == 0
            saves = stops or due or left_over or self._stops_early()
            if saves or self._save_is_due():
                self._save(step)
            else:
                self.validation.prune(self.checkpoints.steps)
            if stops:
                self._wait_for_checkpoint()
                progress.message(f"stopped by {self._stop.name} at step {step:,}; saved")
                self.workers.barrier()
                raise SystemExit(128 + self._stop.signal)
            progress.resume()
        self._wait_for_checkpoint()
        if self._stops_early():
            self.log(f"stopped early at step {self.step:,}: {self.validation.stopping.reason}")
        self._warn_if_skipped()

    def _stops_early(self) -> bool:
        """Returns whether training ends here because of `trainer.stopping`.

        It ends only between loops. A run that resumes within a loop first completes it, so it ends
        at the same step as without the interruption.
        """
        between_loops = self.state.open_loop is None
        return self.state.validates and between_loops and self.validation.stopping.stops(self.step)

    def _save(self, step: int) -> None:
        self._wait_for_checkpoint()
        self.workers.on_chief(functools.partial(self.checkpoints.save, step))
        if not self.plan.config.trainer.async_checkpointing:
            self.validation.best.complete()
        self.validation.prune(self.checkpoints.steps)
        self._save_clock.restart()

    def _wait_for_checkpoint(self) -> None:
        """Waits until the last checkpoint is complete."""
        self.workers.on_chief(self.checkpoints.wait)
        self.validation.best.complete()

    def _save_is_due(self) -> bool:
        """Returns whether the time between checkpoints has passed; all workers agree."""
        return self._save_clock.used and self.workers.of_chief(self._save_clock.due)

    def _run_loop(self, progress: Progress) -> None:
        """Trains to the end of a loop; leaves the loop open if a signal arrives before."""
        state = self.state
        loop = state.open_loop
        if loop is None:
            loop = state.open_loop = self._new_loop()
        self.parts.trainer.set_scales(loop.scales)
        end = self._next_stop()
        while self.step < end and not self._stop():
            self._run_steps(loop, end - self.step, progress)
            if self.step < end and self._save_is_due():
                progress.pause()
                self._save(self.step)
                progress.resume()
        if self.step == end:
            self._check_draws()
            state.skipped += loop.skipped
            self.loop_log.write(loop, state.skipped, progress.tokens_per_second)
            self._update_schedule()
            self._note(progress.message)
            state.open_loop = None
            state.validation_due = state.validates
        else:
            self.loop_log.write_batches()

    def _update_schedule(self) -> None:
        """Lets a schedule learn from losses or a measurement, if it does so at this step."""
        mixture, step = self.parts.mixture, self.step
        if mixture.schedule.next_update(step - 1) != step:
            return
        if self._measure is not None:
            mixture.adaptive.book.measure(self._measure(step), step)
        if mixture.update(self.parts.consumed(step)):
            self.parts.read_from(step)

    def _check_draws(self) -> None:
        """Checks that all workers have drawn the same tasks.

        Every worker draws for itself. Where rounding differs, as it may between kinds of machines,
        a draw may differ too, and the workers would train on parts of different batches.
        """
        if self.workers.count > 1:
            counts = self.parts.consumed_by_task().tolist()
            self.workers.check_same(
                "batches drawn", dict(zip(self.parts.task_names, counts, strict=True))
            )

    def _note(self, log: Callable[[str], None]) -> None:
        """Logs what is new about the tasks, for example that one has reached its limit."""
        notes = self.parts.mixture.adaptive.notes(self.parts.consumed(self.step))
        for line in notes:
            if line not in self._notes:
                log(f"step {self.step:,}: {line}")
        self._notes = notes

    def _new_loop(self) -> OpenLoop:
        consumed = self.parts.consumed(self.step)
        return OpenLoop(
            start=self.step,
            consumed=self.parts.consumed_by_task(),
            scales=self.parts.mixture.scales(consumed),
            counted=consumed,
            given=np.zeros(len(self.parts.tasks)),
        )

    def _run_steps(self, loop: OpenLoop, most: int, progress: Progress) -> None:
        """Runs the next steps of a loop for about two seconds and shows the progress."""
        trainer, first = self.parts.trainer, not self._pace.measured
        if first:
            progress.message("compiling the training step")
        # The number of steps depends on time, so the chief chooses it.
        steps = self.workers.of_chief(self._pace.start(most))
        before = float(np.sum(loop.sums.get("tokens", 0.0)))
        train = trainer.continue_loop if loop.sums else trainer.train
        loop.sums = train(tf.constant(steps, tf.int32))
        seconds = self._pace.stop(steps)
        step, total = self.step, float(loop.sums["tokens"].sum())
        tokens = round(total - before)
        if first:
            progress.message(f"step {step:,} took {seconds:.1f} s, including compilation")
            progress.restart(step, tokens)
            tokens = 0
        # If all steps of a loop were skipped, its loss is NaN, which is shown.
        progress.update(step, float(loop.sums["nll"].sum()) / max(total, 1.0), tokens)

    def _validate(self, progress: Progress) -> None:
        """Runs the validation that is due, unless a signal leaves it to the next run."""
        if not self.state.validation_due or self._stop():
            return
        with contextlib.suppress(EvaluationStopped):
            if self.validation.run_due(self.step, progress.message, self._stop.request):
                self.parts.read_from(self.step)
            self.state.validation_due = False

    def _next_stop(self) -> int:
        """Returns the next step at which a loop ends, because something is due."""
        trainer, step = self.plan.config.trainer, self.step
        intervals = (trainer.checkpoint_interval, trainer.steps_per_loop)
        stops = [(step // interval + 1) * interval for interval in intervals if interval]
        learns = self.parts.mixture.schedule.next_update(step)
        if learns is not None:
            stops.append(learns)
        if self.state.validates:
            stops.append(self.validation.next_stop(step))
        return min([*stops, trainer.train_steps])

    def _warn_if_skipped(self) -> None:
        if self.state.skipped:
            usual = " (one in 2,000 is normal with mixed_float16)" if self.parts.loss_scale else ""
            tracker = self.parts.norm_tracker
            large = tracker.outliers if tracker else 0
            if count := self.state.skipped - large:
                self.log(f"{count} steps were skipped because of a non-finite gradient{usual}")
            if large:
                self.log(f"{large} steps were skipped because of an unusually large gradient")

    def _result(self) -> RunResult:
        names, scores = self.parts.task_names, self.parts.mixture.adaptive.book.scores
        metrics = TaskMetrics.of(self.plan.config).by_task
        consumed = self.parts.consumed_by_task()
        return RunResult(
            step=self.step,
            scores={
                name: schedule_score(metrics[name], float(score))  # Its own inverse.
                for name, score in zip(names, scores, strict=True)
                if math.isfinite(score)
            },
            best_score=self.validation.best.score,
            best_step=self.validation.best.step,
            batches={name: int(count) for name, count in zip(names, consumed, strict=True)},
            skipped=self.state.skipped,
            chief=self.workers.chief,
            stopped_early=self._stops_early(),
        )
