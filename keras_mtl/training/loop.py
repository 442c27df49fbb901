"""A whole run: train, validate every task, let the schedule learn from it, save, go on."""

import contextlib
import dataclasses
import functools
import io
import json
import math
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orbit
import tensorflow as tf

from keras_mtl.config import ExperimentConfig
from keras_mtl.data.prepare import PreparedData
from keras_mtl.errors import CheckpointError, ConfigError
from keras_mtl.metrics import schedule_higher_is_better, schedule_score
from keras_mtl.schedules import ScoreBook, task_index_map
from keras_mtl.training import balance, building
from keras_mtl.training.batch_log import BatchLog
from keras_mtl.training.checkpoints import (
    ArrayState,
    RunCheckpoints,
    read_all,
    write_checkpoint,
)
from keras_mtl.training.distribution import configure_runtime, to_all_replicas
from keras_mtl.training.evaluation import Evaluator
from keras_mtl.training.event_log import EventLog
from keras_mtl.training.moments import moments_state, optimizer_state, restore_moments
from keras_mtl.training.progress import Progress
from keras_mtl.training.run_directory import RunDirectory
from keras_mtl.training.setup import prepare_from_config
from keras_mtl.training.trainer import MultiTaskTrainer

MODES = ("train", "train_and_eval", "eval")


@dataclasses.dataclass
class RunResult:
    """What a run came to.

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
        model_dir: folder of the run. When it holds checkpoints the run goes on from the newest
            with the same tasks, batches and random numbers as if it had never stopped.
        mode: ``train`` (no validation), ``train_and_eval`` or ``eval`` (validate once).
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
    strategy = configure_runtime(config.runtime)
    prepared = prepare_from_config(config, model_dir, log=log)
    return Run(config, Path(model_dir), prepared, strategy, log).execute(mode)


class Run:
    """One run in one process.

    Args:
        config: validated configuration.
        model_dir: folder of the run.
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
        self.task_names = [task.name for task in self.tasks]
        self.schedule = building.build_schedule(config, self.tasks)
        if warning := building.scaling_warning(config, self.schedule):
            log(f"warning: {warning}")
        self.book = self._new_book()
        self.mixture = building.build_mixture(
            config, prepared, self.schedule, strategy.num_replicas_in_sync
        )
        decoder_of_task = building.decoder_of_task(config, prepared)
        with strategy.scope():
            self.model = building.build_model(config, prepared)
            self.optimizer = building.build_optimizer(config, self.schedule, self.model.hidden_dim)
            self.optimizer.build(self.model.trainable_variables)
            self.balancing = balance.build_balancing(config, len(self.tasks))
        optimizer = config.trainer.optimizer
        self.accumulation = optimizer.gradient_accumulation_steps
        self.trainer = MultiTaskTrainer(
            self.model,
            self.optimizer,
            strategy,
            len(self.task_names),
            decoder_of_task,
            label_smoothing=config.task.model.label_smoothing,
            global_clipnorm=optimizer.global_clipnorm,
            accumulation=self.accumulation,
            jit_compile=self._compiles(),
            scale_learning_rate=building.scales_learning_rate(config, self.schedule),
            balancing=self.balancing,
            mixed=config.task.data.granularity == "example",
        )
        self.best_score, self.best_step = math.nan, -1
        self.skipped = 0
        self.evaluated_step = -1
        self._logged_step = 0
        self._logged_consumed = np.zeros(len(self.tasks), np.int64)
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
        self.directory.write(config, prepared, decoder_of_task)
        self.events = EventLog(self.directory.path)
        self.batch_log = BatchLog(self.directory.path) if config.trainer.log_batches else None
        self._stop_signal = 0

    def _compiles(self) -> bool:
        """Whether XLA compiles the training step: as configured, else where there is a GPU."""
        asked = self.config.runtime.jit_compile
        return bool(tf.config.list_logical_devices("GPU")) if asked is None else asked

    @property
    def step(self) -> int:
        """Updates done."""
        return int(self.trainer.global_step.numpy())

    def execute(self, mode: str) -> RunResult:
        """Restores the newest checkpoint, trains and validates as the mode says."""
        prefix = self.checkpoints.restore()
        if prefix:
            self._restore_state()
            self.log(f"going on from {prefix} at step {self.step:,}")
        elif mode == "eval":
            raise CheckpointError(f"{self.directory.path} holds no checkpoint to evaluate")
        if mode == "eval":
            self.evaluate()
            return self._result()
        validates = mode == "train_and_eval"
        if self.schedule.adaptive and not validates:
            raise ConfigError(
                f"the schedule {self.config.trainer.schedule.name!r} adapts to validation scores; "
                "use --mode train_and_eval"
            )
        self.events.resume(self.step)
        if self.batch_log:
            self.batch_log.resume(self._consumed(self.step))
        self.log(f"padding: {self.mixture.padding_waste():.1%} of the tokens in a batch")
        with self._terminate_gently(), self.events:
            self._train(validates)
        return self._result()

    def _train(self, validates: bool) -> None:
        trainer = self.config.trainer
        with Progress(trainer.train_steps, self.step) as progress:
            controller = orbit.Controller(
                global_step=self.trainer.global_step,
                trainer=self.trainer,
                strategy=self.strategy,
                steps_per_loop=trainer.steps_per_loop,
                train_actions=[lambda sums: self._log_loop(sums, progress)],
            )
            self._logged_step = self.step
            self._logged_consumed = self.mixture.consumed(self._collect_mixture())
            self._read_from(self.step)
            while self.step < trainer.train_steps:
                progress.resume()
                self.trainer.set_scales(self.mixture.scales(self._consumed(self.step)))
                # Orbit prints a line a loop to stdout, which belongs to results.
                with contextlib.redirect_stdout(io.StringIO()):
                    controller.train(self._next_stop(validates), checkpoint_at_completion=False)
                step = self.step
                progress.pause()
                if validates and self._due(step, trainer.evaluation.interval):
                    self.evaluate(progress.message)
                    self._read_from(step)
                if self._due(step, trainer.checkpoint_interval) or self._stop_signal:
                    self.checkpoints.save(step)
                if self._stop_signal:
                    progress.message(
                        f"stopped by signal {self._stop_signal} at step {step:,}; saved"
                    )
                    raise SystemExit(128 + self._stop_signal)
        self._warn_if_skipped()

    def _next_stop(self, validates: bool) -> int:
        """Returns the step at which something other than training is due, or a loop ends."""
        trainer = self.config.trainer
        intervals = [trainer.checkpoint_interval, trainer.steps_per_loop]
        if validates and trainer.evaluation.interval:
            intervals.append(trainer.evaluation.interval)
        stops = [(self.step // interval + 1) * interval for interval in intervals]
        return min([*stops, trainer.train_steps])

    def _due(self, step: int, interval: int) -> bool:
        return step == self.config.trainer.train_steps or (interval > 0 and step % interval == 0)

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

    def evaluate(self, log: Callable[[str], None] | None = None) -> dict[str, float]:
        """Scores every task on its dev set, tells the schedule, keeps the best weights.

        Returns:
            The score by task of ``trainer.evaluation.metric``.
        """
        step = self.step
        settings = self.config.trainer.evaluation
        with self._averaged_weights():
            results = self._evaluator.evaluate()
            scores = {name: results[name].scores[settings.metric] for name in self.task_names}
            macro = float(np.mean(list(scores.values())))
            # NaN, from before the first validation, compares false.
            if not macro <= self.best_score:
                self.best_score, self.best_step = macro, step
                self._save_best(step)
        for index, name in enumerate(self.task_names):
            self.book.set(index, step, schedule_score(settings.metric, scores[name]))
        if step > self.evaluated_step:
            self.mixture.update(self._consumed(step), self.book)
            self.evaluated_step = step
            probabilities = self.mixture.probabilities(self._consumed(step))
            self.events.evaluation(
                step,
                results,
                self._ratios(),
                settings.metric,
                dict(zip(self.task_names, probabilities, strict=True)),
            )
        shown = "  ".join(f"{name} {scores[name]:.1f}" for name in self.task_names[:8])
        more = "  …" if len(self.task_names) > 8 else ""
        (log or self.log)(
            f"step {step:,}: {settings.metric} {macro:.2f} on average over tasks: {shown}{more}"
        )
        return scores

    def _new_book(self) -> ScoreBook:
        metric = self.config.trainer.evaluation.metric
        return ScoreBook(self.tasks, schedule_higher_is_better(metric))

    def _ratios(self) -> dict[str, float] | None:
        """Returns score / baseline by task, None where a task has no baseline."""
        if any(task.baseline is None for task in self.tasks):
            return None
        return dict(zip(self.task_names, self.book.ratios(), strict=True))

    def _save_best(self, step: int) -> None:
        """Keeps the weights as they are now, averaged ones when there are any, in ``best``."""

        def drop_others():
            for file in self.directory.best.glob("ckpt-*"):
                if file.name.split(".")[0] != f"ckpt-{step}":
                    file.unlink(missing_ok=True)

        write_checkpoint(
            tf.train.Checkpoint(model=self.model), self.directory.best / f"ckpt-{step}", drop_others
        )

    @contextlib.contextmanager
    def _averaged_weights(self):
        """Puts the averaged weights in place, where the optimizer keeps an average."""
        averages = self.optimizer.averages
        if not averages or self.step == 0:
            yield
            return
        variables = self.model.trainable_variables
        kept = [variable.numpy() for variable in variables]
        for variable, average in zip(variables, averages, strict=True):
            variable.assign(average.numpy())
        try:
            yield
        finally:
            for variable, value in zip(variables, kept, strict=True):
                variable.assign(value)

    def _log_loop(self, sums, progress: Progress) -> None:
        step = self.step
        tokens = sums["tokens"]
        total = float(tokens.sum())
        skipped = round(float(sums["skipped"]))
        steps = step - self._logged_step
        counted = steps - skipped
        self.skipped += skipped
        self._logged_step = step
        # A loop of skipped steps alone has a loss of NaN; it is shown as it is.
        progress.update(step, float(sums["nll"].sum()) / max(total, 1.0), int(total))
        consumed = self.mixture.consumed(self._collect_mixture())
        seen = np.flatnonzero(tokens)
        probabilities = self.mixture.probabilities(self._consumed(step))
        self._observe_losses(steps, sums, consumed)
        scales = self.mixture.scales(self._consumed(step))
        self.events.train(
            step,
            {self.task_names[i]: float(sums["nll"][i] / tokens[i]) for i in seen},
            dict(zip(self.task_names, probabilities, strict=True)),
            progress.tokens_per_second,
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

    def _observe_losses(self, steps: int, sums, consumed: np.ndarray) -> None:
        """Tells the score book the loop's losses, for schedules that learn from them."""
        drawn = consumed - self._logged_consumed
        self._logged_consumed = consumed
        # The probabilities that the loop was drawn by: updates happen between loops alone.
        step = self.step
        before = self.mixture.probabilities(self._consumed(step) - 1)
        batches = drawn / max(1, drawn.sum()) * self._consumed(steps)
        for task in np.flatnonzero(sums["tokens"] * drawn):
            loss = float(sums["nll"][task] / sums["tokens"][task])
            if math.isfinite(loss):
                self.book.observe(int(task), step, loss, before[task], float(batches[task]))

    def _warn_if_skipped(self) -> None:
        if self.skipped:
            self.log(f"{self.skipped} steps were skipped: their gradient was not finite")

    @functools.cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator.from_model(self.config, self.model, self.prepared)

    def _collect_mixture(self) -> dict[str, np.ndarray]:
        return self.mixture.state(self._consumed(self.step))

    def _collect(self) -> dict[str, np.ndarray]:
        """Gathers what is neither weights nor optimizer: cursors, schedule, scores, counters."""
        return {
            **{f"mixture/{name}": value for name, value in self._collect_mixture().items()},
            **{f"book/{name}": value for name, value in self.book.state_dict().items()},
            **balance.collect(self.balancing),
            "best": np.array([self.best_score, self.best_step], np.float64),
            "counters": np.array([self.skipped, self.evaluated_step], np.int64),
        }

    def _read_checkpoint(self, prefix: str) -> None:
        read_all(tf.train.Checkpoint(**self._parts), prefix)
        restore_moments(self.optimizer, prefix, self._saved_tasks())

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
        arrays = self._restored

        def part(prefix):
            return {
                name.removeprefix(prefix): value
                for name, value in arrays.items()
                if name.startswith(prefix)
            }

        self.mixture.restore(part("mixture/"))
        balance.restore(self.balancing, arrays, self._saved_tasks())
        self.book = ScoreBook.from_state(self.tasks, part("book/"), self._saved_tasks())
        direction = schedule_higher_is_better(self.config.trainer.evaluation.metric)
        if self.book.higher_is_better != direction:
            self.log("the metric changed since the checkpoint; its scores are forgotten")
            self.book = self._new_book()
            self.best_score, self.best_step = math.nan, -1
        self.best_score, best_step = (float(value) for value in arrays["best"])
        self.best_step = int(best_step)
        self.skipped, self.evaluated_step = (int(value) for value in arrays["counters"])

    def _result(self) -> RunResult:
        scores = self.book.scores
        return RunResult(
            step=self.step,
            scores={
                name: float(score)
                for name, score in zip(self.task_names, scores, strict=True)
                if math.isfinite(score)
            },
            best_score=self.best_score,
            best_step=self.best_step,
            batches={
                name: int(count)
                for name, count in zip(
                    self.task_names, self.mixture.consumed(self._collect_mixture()), strict=True
                )
            },
            skipped=self.skipped,
        )

    @contextlib.contextmanager
    def _terminate_gently(self):
        """Turns SIGTERM, a TPU VM's preemption, into a checkpoint at the end of the loop."""

        def note(number, _):
            self._stop_signal = number

        try:
            previous = signal.signal(signal.SIGTERM, note)
        except ValueError:  # Not the main thread: the caller handles signals.
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)
