"""The log of a run: `metrics.jsonl` and TensorBoard scalars.

`metrics.jsonl` contains one JSON object per line. Each event is appended and flushed immediately,
so that `tail -f` can follow the file. There are two kinds of events:

```json
{"event": "train", "step": 100, "loss": {"en-fr": 5.1, ...}, "probabilities": {...}, ...}
{"event": "evaluation", "step": 500, "scores": {"chrf": {"en-fr": 31.2, ...}}, ...}
```

If an evaluation took effect after the step of its weights, it also has an `effective_step`. A run
that resumes from a checkpoint drops the events after the checkpoint's step. So the file contains
each step once, as if the run had not been interrupted.

`samples.jsonl` has an event for each evaluation that translates, with a few dev sentences of each
task, always the same:

```json
{"event": "samples", "step": 500, "samples": {"en-fr": [{"source": ..., "reference": ...,
"translation": ...}, ...], ...}}
```
"""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from keras_mtl.evaluation.results import TaskResult
from keras_mtl.evaluation.samples import Sample
from keras_mtl.events import Event, effective_step, readable
from keras_mtl.run_files import METRICS_FILE, SAMPLES_FILE
from keras_mtl.training.run.event_file import EventFile
from keras_mtl.training.run.event_file import number as _number
from keras_mtl.training.run.tensorboard_log import TensorBoardLog

TENSORBOARD_DIR = "tensorboard"


class Scored(Protocol):
    """The result of a task's evaluation, as the log requires it."""

    @property
    def scores(self) -> Mapping[str, float]:
        """Score by metric name."""

    @property
    def seconds(self) -> float:
        """Duration of the task's evaluation in seconds."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """The simplest `Scored`: scores by metric name and the duration in seconds.

    Attributes:
        scores: score by metric name.
        seconds: duration of the task's evaluation.
        samples: dev sentences for `samples.jsonl`.
    """

    scores: Mapping[str, float]
    seconds: float
    samples: Sequence[Sample] = ()


def plain(result: TaskResult) -> tuple[dict[str, float], float, list[Sample]]:
    """Returns the arguments of the `Scores` of a result, in plain types."""
    scores = {name: float(value) for name, value in result.scores.items()}
    return scores, float(result.seconds), list(result.samples)


class EventLog:
    """Writes the events of one run.

    Args:
        model_dir: directory of the run; it is created if it does not exist.
        tensorboard: whether to write TensorBoard scalars, too, in `<model_dir>/tensorboard`.
        writes: whether to write anything; False for a process that is not the chief.

    Example:
        ```python
        from keras_mtl import EventLog

        log = EventLog("run", tensorboard=False)
        log.train(100, {"en-fr": 3.2, "en-oc": 5.1}, {"en-fr": 0.4, "en-oc": 0.6})
        log.close()
        ```
    """

    def __init__(
        self, model_dir: str | os.PathLike[str], tensorboard: bool = True, writes: bool = True
    ):
        self.path = Path(model_dir) / METRICS_FILE
        self._file = EventFile(self.path, writes)
        self._samples = EventFile(self.path.with_name(SAMPLES_FILE), writes)
        directory = self.path.parent / TENSORBOARD_DIR
        self._tensorboard = TensorBoardLog(directory) if tensorboard and writes else None
        if writes:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def resume(self, step: int, evaluated_step: int | None = None) -> int:
        """Drops every event after the checkpoint; call it before a run's first event.

        The shortened files replace the old ones atomically. The next TensorBoard scalar is preceded
        by a session start, so that TensorBoard drops the points that will be written again.

        Args:
            step: step of the checkpoint from which the run resumes; 0 for a new run.
            evaluated_step: step of the newest weights whose scores the checkpoint contains; None:
                it contains every evaluation that took effect until `step`.

        Returns:
            The number of dropped events of `metrics.jsonl`, including an incomplete last line.

        Raises:
            DataError: a line other than the last is not an event.
        """
        self.close()

        def is_known(event: Event) -> bool:
            return _is_known(event, step, evaluated_step)

        self._samples.keep(is_known)
        return self._file.keep(is_known, self._drop_from_tensorboard)

    def train(
        self,
        step: int,
        losses: Mapping[str, float],
        probabilities: Mapping[str, float],
        tokens_per_second: float | None = None,
        learning_rate: float | None = None,
        gradient_norm: float | None = None,
        skipped: int = 0,
        batches: Mapping[str, int] | None = None,
        scales: Mapping[str, float] | None = None,
        weights: Mapping[str, float] | None = None,
        tokens: Mapping[str, int] | None = None,
        outliers: int | None = None,
    ) -> None:
        """Logs the training steps since the last `train` event.

        Args:
            step: number of training steps so far.
            losses: mean loss per token by task, in nats; without tasks that had no batch.
            probabilities: the schedule's probabilities for the next step by task.
            tokens_per_second: target tokens per second, without padding; None if unknown.
            learning_rate: learning rate of the last step; None if unknown.
            gradient_norm: mean over the steps, before clipping; None if unknown.
            skipped: number of steps so far that were skipped because of their gradient.
            batches: number of batches so far by task, or of examples if batches are mixed.
            scales: factor of an implicit schedule by task; None if all are 1.
            weights: mean weight from balancing by task, over the steps that had the task; None
                without balancing.
            tokens: target tokens by task since the last `train` event, without padding.
            outliers: number of skipped steps whose gradient was finite but too large; None if such
                steps are not skipped.
        """
        event: dict[str, Any] = {
            "event": "train",
            "step": int(step),
            "loss": _numbers(losses),
            "probabilities": _numbers(probabilities),
            "tokens_per_second": _number(tokens_per_second),
            "learning_rate": _number(learning_rate),
            "gradient_norm": _number(gradient_norm),
            "skipped": int(skipped),
        }
        if outliers is not None:
            event["outliers"] = int(outliers)
        if batches is not None:
            event["batches"] = {task: int(count) for task, count in batches.items()}
        if tokens is not None:
            event["tokens"] = {task: int(count) for task, count in tokens.items()}
        if scales is not None:
            event["scales"] = _numbers(scales)
        if weights is not None:
            event["weights"] = _numbers(weights)
        self._file.append(event)
        self._show(event)

    def evaluation(
        self,
        step: int,
        results: Mapping[str, Scored],
        ratios: Mapping[str, float] | None = None,
        metric: str | None = None,
        probabilities: Mapping[str, float] | None = None,
        effective_step: int | None = None,
        waited_seconds: float | None = None,
        averages: Mapping[str, float] | None = None,
    ) -> None:
        """Logs the validation of the tasks.

        Args:
            step: number of training steps of the validated weights.
            results: result by task; see `keras_mtl.evaluation.results.TaskResult`. The `samples` of
                a `Scores` go to `samples.jsonl`.
            ratios: score / baseline by task, for the tasks with a baseline.
            metric: the metric used by the schedule and to select the best checkpoint; one of them
                if tasks have different ones.
            probabilities: the schedule's probabilities by task after it used the scores; None if it
                did not use them.
            effective_step: step at which the scores took effect, if training continued meanwhile.
            waited_seconds: time that training waited for the scores.
            averages: mean over tasks by metric; None averages the results, for the metrics that
                all of them have.
        """
        scores: dict[str, dict[str, float | None]] = {}
        for task, result in results.items():
            for name, value in result.scores.items():
                scores.setdefault(name, {})[task] = _number(value)
        macro = {
            name: _mean(list(values.values()))
            for name, values in scores.items()
            if len(values) == len(results)
        }
        if averages is not None:
            macro = _numbers(averages)
        event: dict[str, Any] = {"event": "evaluation", "step": int(step)}
        if effective_step is not None:
            event["effective_step"] = int(effective_step)
        if metric is not None:
            event["metric"] = metric
        event["scores"] = scores
        event["macro_average"] = macro
        if ratios is not None:
            event["ratios"] = _numbers(ratios)
        if probabilities is not None:
            event["probabilities"] = _numbers(probabilities)
        event["seconds"] = _number(math.fsum(result.seconds for result in results.values()))
        if waited_seconds is not None:
            event["waited_seconds"] = _number(waited_seconds)
        self._file.append(event)
        self._show(event)
        samples = {
            task: list(result.samples)
            for task, result in results.items()
            if isinstance(result, Scores) and result.samples
        }
        if samples:
            shown: dict[str, Any] = {"event": "samples", "step": int(step)}
            if effective_step is not None:
                shown["effective_step"] = int(effective_step)
            self._samples.append({**shown, "samples": samples})
            if self._tensorboard is not None:
                self._tensorboard.samples(step, samples)

    def histograms(self, step: int, variables: Mapping[str, Any]) -> None:
        """Writes a TensorBoard histogram of each variable.

        Args:
            step: number of training steps so far.
            variables: arrays by name.
        """
        if self._tensorboard is not None:
            self._tensorboard.histograms(step, variables)

    def close(self) -> None:
        """Closes the files; a later event reopens them."""
        self._file.close()
        self._samples.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _drop_from_tensorboard(
        self, kept: Sequence[Mapping[str, Any]], dropped: Sequence[Mapping[str, Any]]
    ) -> None:
        """Makes TensorBoard drop the points of the dropped events."""
        if self._tensorboard is None or not dropped:
            return
        first = min(event["step"] for event in dropped)
        self._tensorboard.start_at(first)
        # Kept scores whose step is later than `first` were dropped, too, so write them again.
        for event in kept:
            if event["step"] >= first:
                self._show(readable(dict(event))[0])

    def _show(self, event: Mapping[str, Any]) -> None:
        if self._tensorboard is not None:
            self._tensorboard.scalars(event["step"], _scalars(event))


def _scalars(event: Mapping[str, Any]) -> dict[str, float]:
    """Returns the TensorBoard scalars of an event by tag."""
    if event.get("event") == "train":
        by_task = {
            "loss": event.get("loss", {}),
            "probability": event.get("probabilities", {}),
            "scale": event.get("scales", {}),
            "weight": event.get("weights", {}),
        }
        single = {
            "training/tokens_per_second": event.get("tokens_per_second"),
            "training/learning_rate": event.get("learning_rate"),
            "training/gradient_norm": event.get("gradient_norm"),
            "training/skipped_steps": event.get("skipped"),
        }
    else:
        by_task = {**event.get("scores", {}), "score_over_baseline": event.get("ratios", {})}
        means = event.get("macro_average", {})
        single = {f"{name}/macro_average": mean for name, mean in means.items()}
        single["training/waited_for_validation"] = event.get("waited_seconds")
    return {
        **{
            f"{name}/{task}": math.nan if value is None else value
            for name, values in by_task.items()
            for task, value in values.items()
        },
        **{tag: value for tag, value in single.items() if value is not None},
    }


def _is_known(event: Mapping[str, Any], step: int, evaluated_step: int | None) -> bool:
    """Returns whether a checkpoint at `step` includes an event; see `EventLog.resume`."""
    if effective_step(event) > step:
        return False
    # A run that was stopped during a validation saved before the scores took effect.
    unknown = evaluated_step is not None and event["step"] > evaluated_step
    return not (event.get("event") in ("evaluation", "samples") and unknown)


def _mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean; None if a value is missing, because other means would not be comparable."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {task: _number(value) for task, value in values.items()}
