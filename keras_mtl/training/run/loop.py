"""A whole run: train, validate every task, let the schedule learn from it, save, repeat.

Steps run in loops of `trainer.steps_per_loop`. A loop is left and entered again every few seconds,
to show progress and to stop when a signal asks for it. What is logged and learned at its end
depends only on its steps, even if the run stopped in between.
"""

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.data.prepare import PreparedData
from keras_mtl.errors import CheckpointError, ConfigError
from keras_mtl.evaluation.evaluator import EvaluationStopped
from keras_mtl.evaluation.tasks import decoder_of_task
from keras_mtl.interrupts import StopRequest, stop_on_signals
from keras_mtl.models.factory import check_sublayers
from keras_mtl.schedules import task_index_map
from keras_mtl.training.run import building
from keras_mtl.training.run.batch_log import BatchLog
from keras_mtl.training.run.checkpoints import ArrayState, RunCheckpoints, read_all
from keras_mtl.training.run.directory import RunDirectory
from keras_mtl.training.run.event_log import EventLog
from keras_mtl.training.run.modes import MODES
from keras_mtl.training.run.progress import Progress
from keras_mtl.training.run.setup import prepare_from_config
from keras_mtl.training.run.step_loop import OpenLoop, Pace
from keras_mtl.training.run.validation import RunValidation, check_lag
from keras_mtl.training.step import balancing as balance
from keras_mtl.training.step import devices
from keras_mtl.training.step.distribution import (
    compiles_with_xla,
    configure_runtime,
    to_all_replicas,
)
from keras_mtl.training.step.moments import moments_state, optimizer_state, restore_moments
from keras_mtl.training.step.trainer import MultiTaskTrainer


@dataclasses.dataclass
class RunResult:
    """Result of a run.

    Attributes:
      step: steps done.
      scores: latest validation score by task; empty when nothing was validated.
      best_score: best macro-averaged score, NaN when nothing was validated.
      best_step: step it was seen at, -1 when nothing was validated.
      batches: by task, its share of what was consumed: batches, or examples when mixed.
      skipped: steps skipped because their gradient was not finite.
    """

    step: int
    scores: dict[str, float]
    best_score: float
    best_step: int
    batches: dict[str, int]
    skipped: int


def run_experiment(
    config: ExperimentConfig,
    model_dir: str | Path,
    mode: str = "train_and_eval",
    log: Callable[[str], None] = print,
) -> RunResult:
    """Runs an experiment, from where ``model_dir`` stands to ``trainer.train_steps``.

    Args:
        config: validated configuration.
        model_dir: directory of the run. If it holds checkpoints, the run resumes from the newest
            with the same tasks, batches and random numbers as without a stop.
        mode: ``train`` (no validation), ``train_and_eval`` or ``eval`` (validate the newest
            checkpoint once, and do not change the directory).
        log: function that gets lines for the user.

    Returns:
        The `RunResult`.

    Raises:
        ConfigError: something in the configuration cannot be.
        DataError: the corpora or the prepared store cannot be used.
        CheckpointError: ``model_dir`` belongs to another configuration, no checkpoint in it can be
            read, or one cannot be written.
    """
    if mode not in MODES:
        raise ConfigError(f"--mode is {mode!r}; known: {', '.join(MODES)}")
    building.check_schedule(config)
    if mode == "train_and_eval":
        check_lag(config)
    if mode != "train":
        building.check_dev_pairs(config)
    strategy = configure_runtime(config.runtime)
    for line in devices.describe(config.runtime, compiles_with_xla(config.runtime)):
        log(line)
    # After the runtime is set up, because this check computes.
    check_sublayers(config.task.model, config.runtime.mixed_precision_dtype)
    prepared = prepare_from_config(config, model_dir, log=log)
    return Run(config, Path(model_dir), prepared, strategy, log).execute(mode)


class Run:
    """One run in one process.

    Args:
        config: validated configuration.
        model_dir: directory of the run.
        prepared: prepared data.
        strategy: the process's strategy.
        log: function that gets lines for the user.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        model_dir: Path,
        prepared: PreparedData,
        strategy: tf.distribute.Strategy,
        log: Callable[[str], None],
    ):
        self.config = config
        self.prepared = prepared
        self.strategy = strategy
        self.log = log
        self.directory = RunDirectory(model_dir)
        for change in self.directory.check(config, prepared):
            log(f"changed since the last run: {change}")
        self.tasks = building.task_infos(config, prepared)
        for line in building.overruled_baselines(config):
            log(line)
        self.task_names = [task.name for task in self.tasks]
        self.schedule = building.build_schedule(config, self.tasks)
        if warning := building.scaling_warning(config, self.schedule):
            log(f"warning: {warning}")
        self.mixture = building.build_mixture(
            config, prepared, self.schedule, strategy.num_replicas_in_sync
        )
        self.decoder_of_task = decoder_of_task(config, prepared)
        with strategy.scope():
            self.model = building.build_model(config, prepared)
            self.optimizer = building.build_optimizer(config, self.schedule, self.model.hidden_dim)
            self.optimizer.build(self.model.trainable_variables)
            self.balancing = balance.build_balancing(config, len(self.tasks))
            self.loss_scale = building.build_loss_scale(config)
        self.accumulation = config.trainer.optimizer.gradient_accumulation_steps
        self.trainer = self._build_trainer()
        self.events = EventLog(self.directory.path)
        self.validation = RunValidation(
            config,
            prepared,
            self.tasks,
            self.model,
            self.optimizer,
            self.mixture,
            self.directory,
            self.events,
        )
        self.skipped = 0
        self._validates = False
        self._pace = Pace()
        self._open_loop: OpenLoop | None = None
        # Whether the validation that is due at this step has still to be done.
        self._validation_due = False
        self._state = ArrayState(self._collect)
        self._parts = {
            "model": self.model,
            "optimizer": optimizer_state(self.optimizer),
            "global_step": self.trainer.global_step,
            "state": self._state,
        }
        self.checkpoints = RunCheckpoints(
            self.directory.path,
            tf.train.Checkpoint(**self._parts, moments=moments_state(self.optimizer)),
            config.trainer.max_to_keep,
            log,
            self._read_checkpoint,
        )
        self.batch_log = BatchLog(self.directory.path) if config.trainer.log_batches else None
        self._stop = StopRequest()

    def _build_trainer(self) -> MultiTaskTrainer:
        config = self.config
        return MultiTaskTrainer(
            self.model,
            self.optimizer,
            self.strategy,
            len(self.task_names),
            self.decoder_of_task,
            label_smoothing=config.task.model.label_smoothing,
            global_clipnorm=config.trainer.optimizer.global_clipnorm,
            accumulation=self.accumulation,
            jit_compile=compiles_with_xla(config.runtime),
            scale_learning_rate=building.scales_learning_rate(config, self.schedule),
            balancing=self.balancing,
            mixed=config.task.data.granularity == "example",
            loss_scale=self.loss_scale,
        )

    @property
    def step(self) -> int:
        """Updates done."""
        return int(self.trainer.global_step.numpy())

    def execute(self, mode: str) -> RunResult:
        """Restores the newest checkpoint, trains and validates as the mode says."""
        with contextlib.nullcontext() if mode == "eval" else self.directory.locked():
            return self._execute(mode)

    def _execute(self, mode: str) -> RunResult:
        self._validates = mode == "train_and_eval"
        if mode != "train":
            self.validation.check_pairs(self.log)
        prefix = self.checkpoints.restore(tidy=mode != "eval")
        if prefix:
            self._restore_state()
            self.log(f"resuming from {prefix} at step {self.step:,}")
        elif mode == "eval":
            raise CheckpointError(f"{self.directory.path} holds no checkpoint to evaluate")
        if mode == "eval":
            self.validation.score(self.step, self.log)
            return self._result()
        if self.schedule.adaptive and not self._validates:
            raise ConfigError(
                f"the schedule {self.config.trainer.schedule.name!r} adapts to validation scores; "
                "use --mode train_and_eval"
            )
        self.directory.write(self.config, self.prepared, self.decoder_of_task)
        self.events.resume(self.step, self.validation.evaluated_step)
        if self.batch_log:
            self.batch_log.resume(self._consumed(self.step))
        self.log(f"padding: {self.mixture.padding_waste():.1%} of the tokens in a batch")
        with (
            Progress(self.config.trainer.train_steps, self.step) as progress,
            stop_on_signals(progress.message) as self._stop,
            self.events,
            contextlib.closing(self.validation),
        ):
            self._train(progress)
        return self._result()

    def _train(self, progress: Progress) -> None:
        if self._open_loop:
            self.trainer.restore_totals(self._open_loop.sums)
        self._read_from(self.step)
        self.validation.resume(self._validates, progress.message)
        last = self.config.trainer.train_steps
        while self.step < last or self._validation_due:
            left_over = self._validation_due  # by the run before, which saved without it
            if not left_over:
                self._run_loop(progress)
            progress.pause()
            if not self._open_loop:
                self._validate(progress)
            step, stops = self.step, self._stop()
            due = step == last or step % self.config.trainer.checkpoint_interval == 0
            if stops or due or left_over:
                self.checkpoints.save(step)
            self.validation.prune(self.checkpoints.steps)
            if stops:
                progress.message(f"stopped by {self._stop.name} at step {step:,}; saved")
                raise SystemExit(128 + self._stop.signal)
            progress.resume()
        self._warn_if_skipped()

    def _run_loop(self, progress: Progress) -> None:
        """Trains to the end of a loop; leaves it open if a signal asks for an end before."""
        loop = self._open_loop
        if loop is None:
            start = self.step
            loop = self._open_loop = OpenLoop(
                start=start,
                consumed=self.mixture.consumed(self._collect_mixture()),
                scales=self.mixture.scales(self._consumed(start)),
                counted=self._consumed(start),
                given=np.zeros(len(self.tasks)),
            )
        self.trainer.set_scales(loop.scales)
        end = self._next_stop()
        while self.step < end and not self._stop():
            self._run_steps(loop, end - self.step, progress)
        if self.step == end:
            self._log_loop(loop, progress.tokens_per_second)
            self._open_loop = None
            self._validation_due = self._validates
        elif self.batch_log:
            self.batch_log.write(self.mixture, self._consumed(self.step))

    def _run_steps(self, loop: OpenLoop, most: int, progress: Progress) -> None:
        """Runs some of a loop's next steps, about two seconds, and shows where training is."""
        first = not self._pace.measured
        if first:
            progress.message("compiling the training step")
        steps = self._pace.start(most)
        before = float(np.sum(loop.sums.get("tokens", 0.0)))
        train = self.trainer.continue_loop if loop.sums else self.trainer.train
        loop.sums = train(tf.constant(steps, tf.int32))
        seconds = self._pace.stop(steps)
        step, total = self.step, float(loop.sums["tokens"].sum())
        tokens = round(total - before)
        if first:
            progress.message(f"step {step:,} took {seconds:.1f} s, compilation included")
            progress.restart(step, tokens)
            tokens = 0
        # A loop of skipped steps only has a loss of NaN; it is shown as it is.
        progress.update(step, float(loop.sums["nll"].sum()) / max(total, 1.0), tokens)

    def _validate(self, progress: Progress) -> None:
        """Does the validation that is due; a signal leaves it to the next run."""
        if not self._validation_due or self._stop():
            return
        with contextlib.suppress(EvaluationStopped):
            if self.validation.at(self.step, progress.message, self._stop):
                self._read_from(self.step)
            self._validation_due = False

    def _next_stop(self) -> int:
        """Returns the step at which something other than training is due, or a loop ends."""
        trainer, step = self.config.trainer, self.step
        intervals = (trainer.checkpoint_interval, trainer.steps_per_loop)
        stops = [(step // interval + 1) * interval for interval in intervals]
        if self._validates:
            stops.append(self.validation.next_stop(step))
        return min([*stops, trainer.train_steps])

    def _consumed(self, step: int) -> int:
        """Returns the number of batches that training has consumed at a step."""
        return step * self.accumulation

    def _read_from(self, step: int) -> None:
        """Starts reading at a step, with the probabilities that hold from there."""
        start = self._consumed(step)
        replicas = self.strategy.num_replicas_in_sync
        self.trainer.set_dataset(
            to_all_replicas(
                self.strategy, lambda: self.mixture.dataset(start_step=start, replicas=replicas)
            )
        )

    def _log_loop(self, loop: OpenLoop, tokens_per_second: float) -> None:
        """Logs a whole loop, and lets schedules that learn from losses see it."""
        step, sums = self.step, loop.sums
        tokens = sums["tokens"]
        skipped = round(float(sums["skipped"]))
        counted = step - loop.start - skipped
        self.skipped += skipped
        consumed = self.mixture.consumed(self._collect_mixture())
        seen = np.flatnonzero(tokens)
        probabilities = self.mixture.probabilities(self._consumed(step))
        self._observe_losses(loop, consumed)
        scales = self.mixture.scales(self._consumed(step))
        self.events.train(
            step,
            {self.task_names[i]: float(sums["nll"][i] / tokens[i]) for i in seen},
            dict(zip(self.task_names, probabilities, strict=True)),
            tokens_per_second or None,
            float(self.optimizer.learning_rate),
            gradient_norm=float(sums["gradient_norm"]) / counted if counted else None,
            skipped=self.skipped,
            batches=dict(zip(self.task_names, consumed, strict=True)),
            tokens={self.task_names[i]: round(float(tokens[i])) for i in seen},
            scales=None
            if np.all(scales == 1.0)
            else dict(zip(self.task_names, scales, strict=True)),
            weights=balance.mean_weights(sums, self.task_names),
        )
        if self.batch_log:
            self.batch_log.write(self.mixture, self._consumed(step))

    def _observe_losses(self, loop: OpenLoop, consumed: np.ndarray) -> None:
        """Adds the loop's losses to the score book, for schedules that learn from them."""
        drawn = consumed - loop.consumed
        # The probabilities that the loop was drawn by: scores change them only between loops, the
        # step also inside one.
        step, sums = self.step, loop.sums
        loop.count(self.mixture.probabilities, self._consumed(step))
        batches_of_loop = self._consumed(step - loop.start)
        given = loop.given / batches_of_loop
        batches = drawn / max(1, drawn.sum()) * batches_of_loop
        # The pool of a mixed batch may be older than a probability that is 0 by now.
        for task in np.flatnonzero(sums["tokens"] * drawn * given):
            loss = float(sums["nll"][task] / sums["tokens"][task])
            if math.isfinite(loss):
                self.validation.book.observe(
                    int(task), step, loss, given[task], float(batches[task])
                )

    def _warn_if_skipped(self) -> None:
        if self.skipped:
            usual = ", as one in 2,000 is with mixed_float16" if self.loss_scale else ""
            self.log(f"{self.skipped} steps were skipped: their gradient was not finite{usual}")

    def _collect_mixture(self) -> dict[str, np.ndarray]:
        return self.mixture.state(self._consumed(self.step))

    def _collect(self) -> dict[str, np.ndarray]:
        """Gathers what is neither weights nor optimizer: cursors, schedule, scores, counters."""
        loop, inside = self._open_loop, {}
        if loop:
            loop.count(self.mixture.probabilities, self._consumed(self.step))
            inside = loop.collect()
        return {
            **{f"mixture/{name}": value for name, value in self._collect_mixture().items()},
            **self.validation.collect(),
            **balance.collect(self.balancing),
            **(self.loss_scale.collect() if self.loss_scale else {}),
            **inside,
            "validation_due": np.array(self._validation_due),
            "counters": np.array([self.skipped, self.validation.evaluated_step], np.int64),
        }

    def _read_checkpoint(self, prefix: str) -> None:
        read_all(tf.train.Checkpoint(**self._parts), prefix)
        restore_moments(self.optimizer, prefix, self._saved_tasks())
        if self._validates:
            self.validation.check(self._restored)

    def _saved_tasks(self) -> np.ndarray:
        """Returns for each task its index in the list of the checkpoint that was read, or -1."""
        names = json.loads(self._restored["mixture/task_names"].tobytes())
        return task_index_map(names, self.task_names)

    @property
    def _restored(self) -> dict[str, np.ndarray]:
        if self._state.restored is None:
            raise CheckpointError("the checkpoint holds no state of the mixture")
        return self._state.restored

    def _restore_state(self) -> None:
        arrays, saved_tasks = self._restored, self._saved_tasks()
        mixture = {
            name.removeprefix("mixture/"): value
            for name, value in arrays.items()
            if name.startswith("mixture/")
        }
        self.mixture.restore(mixture)
        balance.restore(self.balancing, arrays, saved_tasks)
        if self.loss_scale:
            self.loss_scale.restore(arrays)
        self.skipped, evaluated_step = (int(value) for value in arrays["counters"])
        self.validation.restore(arrays, saved_tasks, evaluated_step, self.log)
        self._validation_due = self._validates and bool(arrays.get("validation_due", False))
        self._open_loop = OpenLoop.from_arrays(arrays, saved_tasks)

    def _result(self) -> RunResult:
        scores = self.validation.book.scores
        return RunResult(
            step=self.step,
            scores={
                name: float(score)
                for name, score in zip(self.task_names, scores, strict=True)
                if math.isfinite(score)
            },
            best_score=self.validation.best_score,
            best_step=self.validation.best_step,
            batches={
                name: int(count)
                for name, count in zip(
                    self.task_names, self.mixture.consumed(self._collect_mixture()), strict=True
                )
            },
            skipped=self.skipped,
        )
