"""The log of a run: `metrics.jsonl` and TensorBoard scalars.

`metrics.jsonl` holds one JSON object a line, appended and flushed at each event, so that it can
be followed with `tail -f` and read by any tool. There are two kinds of events::

    {"event": "train", "step": 100, "loss": {"en-fr": 5.1, ...}, "probabilities": {...}, ...}
    {"event": "evaluation", "step": 500, "scores": {"chrf": {"en-fr": 31.2, ...}}, ...}

An evaluation that took effect after the step whose weights it is of has an `effective_step` too.
A run that resumes from a checkpoint drops the events after the checkpoint's step, so that the file
holds each step once, as without the stop.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from keras_mtl.events import effective_step, read_events
from keras_mtl.files import naming, replace_file
from keras_mtl.run_files import METRICS_FILE
from keras_mtl.training.run.tensorboard_log import TensorBoardLog

TENSORBOARD_DIR = "tensorboard"


class Scored(Protocol):
    """What the log needs of a task's evaluation."""

    @property
    def scores(self) -> Mapping[str, float]:
        """Value by metric name."""

    @property
    def seconds(self) -> float:
        """How long the task's evaluation took."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """The minimal `Scored`: the scores of a task and the time they took."""

    scores: Mapping[str, float]
    seconds: float


class EventLog:
    """Writes the events of one run.

    Args:
        model_dir: directory of the run; made when missing.
        tensorboard: also write TensorBoard scalars under `<model_dir>/tensorboard`.
    """

    def __init__(self, model_dir: str | os.PathLike[str], tensorboard: bool = True):
        self.path = Path(model_dir) / METRICS_FILE
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file: Any = None
        directory = self.path.parent / TENSORBOARD_DIR
        self._tensorboard = TensorBoardLog(directory) if tensorboard else None

    def resume(self, step: int, evaluated_step: int | None = None) -> int:
        """Drops every event that the checkpoint does not know; call it before a run's first event.

        The shortened file is written aside and renamed. TensorBoard gets a session start when the
        next scalar is written, which makes its readers drop the points that are written again.

        Args:
            step: step of the checkpoint that the run resumes from; 0 for a new run.
            evaluated_step: step of the newest weights whose scores the checkpoint knows; None: that
                of every evaluation that took effect by `step`.

        Returns:
            How many events were dropped, a torn last line included.

        Raises:
            DataError: a line other than the last is not an event.
        """
        self.close()
        if not self.path.exists():
            return 0
        lines = self.path.read_bytes().split(b"\n")
        events = read_events(self.path)
        known = [_is_known(event, step, evaluated_step) for event in events]
        kept = [event for event, is_known in zip(events, known, strict=True) if is_known]
        written = sum(1 for line in lines if line.strip())
        if len(kept) == written and not lines[-1]:
            return 0
        self._drop_from_tensorboard(
            kept, [event for event, is_known in zip(events, known, strict=True) if not is_known]
        )
        replace_file(self.path, "".join(map(_encode, kept)))
        return written - len(kept)

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
    ) -> None:
        """Logs the steps since the last such event.

        Args:
            step: training steps done.
            losses: mean loss per token by task, in nats; tasks without a batch since then are
                left out.
            probabilities: by task, as the schedule gives them for the next step.
            tokens_per_second: real target tokens per second, padding not counted; None: not known.
            learning_rate: of the last step; None: not known.
            gradient_norm: mean over the steps, before clipping; None: not known.
            skipped: steps skipped since the start because the gradient was not finite.
            batches: by task, what it has contributed since the start (batches, or examples when
                batches are mixed).
            scales: by task, the factor of an implicit schedule; None when all are 1.
            weights: by task, the mean weight that balancing gave it in the steps that had it; None
                without balancing.
            tokens: by task, real target tokens since the last such event; their sum over the events
                is what the task was trained on.
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
        if batches is not None:
            event["batches"] = {task: int(count) for task, count in batches.items()}
        if tokens is not None:
            event["tokens"] = {task: int(count) for task, count in tokens.items()}
        if scales is not None:
            event["scales"] = _numbers(scales)
        if weights is not None:
            event["weights"] = _numbers(weights)
        self._append(event)
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
    ) -> None:
        """Logs the validation of the tasks.

        Args:
            step: training steps done by the weights that were validated.
            results: by task; see `keras_mtl.evaluation.results.TaskResult`.
            ratios: score / baseline by task, for the tasks that have a baseline.
            metric: the metric that drives the schedule and the choice of the best checkpoint.
            probabilities: by task, after the schedule has learned from the scores; None when it has
                not changed.
            effective_step: step at which the scores took effect, if training continued meanwhile.
            waited_seconds: how long training then waited for them.
        """
        scores: dict[str, dict[str, float | None]] = {}
        for task, result in results.items():
            for name, value in result.scores.items():
                scores.setdefault(name, {})[task] = _number(value)
        macro = {name: _mean(list(values.values())) for name, values in scores.items()}
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
        self._append(event)
        self._show(event)

    def close(self) -> None:
        """Closes both files; a later event opens them again."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._tensorboard is not None:
            self._tensorboard.close()

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _drop_from_tensorboard(
        self, kept: Sequence[Mapping[str, Any]], dropped: Sequence[Mapping[str, Any]]
    ) -> None:
        """Lets TensorBoard's readers forget the points of the events that are not kept."""
        if self._tensorboard is None or not dropped:
            return
        first = min(event["step"] for event in dropped)
        self._tensorboard.start_at(first)
        # Scores that took effect later than the step of their weights are among later losses.
        for event in kept:
            if event["step"] >= first:
                self._show(event)

    def _append(self, event: Mapping[str, Any]) -> None:
        if self._file is None:
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  held over calls
        with naming(self.path):
            self._file.write(_encode(event))
            self._file.flush()

    def _show(self, event: Mapping[str, Any]) -> None:
        if self._tensorboard is not None:
            self._tensorboard.scalars(event["step"], _scalars(event))


def _scalars(event: Mapping[str, Any]) -> dict[str, float]:
    """Returns what TensorBoard shows of an event: value by tag."""
    if event["event"] == "train":
        by_task = {
            "loss": event["loss"],
            "probability": event["probabilities"],
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
        by_task = {**event["scores"], "score_over_baseline": event.get("ratios", {})}
        single = {f"{name}/macro_average": mean for name, mean in event["macro_average"].items()}
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
    """Whether a checkpoint at `step` was saved after an event; see `EventLog.resume`."""
    if effective_step(event) > step:
        return False
    # A run that was stopped in a validation has saved before the scores took effect.
    unknown = evaluated_step is not None and event["step"] > evaluated_step
    return not (event["event"] == "evaluation" and unknown)


def _encode(event: Mapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n"


def _number(value: float | None) -> float | None:
    # JSON has no NaN; `null` is what other readers of the file understand.
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if a value is missing, because the mean of the others is not comparable."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {task: _number(value) for task, value in values.items()}
