"""The time that a run needed up to a step, with the cost of what its schedule needs.

`metrics.jsonl` has the speed of training and the duration of each validation. Extra gradients of a
schedule or a balancing method are part of the speed. Validations count only if the schedule learns
from scores: other runs are validated only to draw their learning curves. On a machine with other
work, these times include the waiting for a processor.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_mtl.events import Curve, Event, of_kind, read_log
from keras_mtl.report.runs import Run
from keras_mtl.report.sweep.families import uses_scores
from keras_mtl.run_files import METRICS_FILE


class Clock(NamedTuple):
    """Seconds of training over steps.

    Attributes:
        steps: int64[n], increasing; the first is 0.
        training: float64[n], seconds of training steps up to each of them.
        validation: float64[n], seconds of the validations that the schedule needs.
    """

    steps: np.ndarray
    training: np.ndarray
    validation: np.ndarray

    def at(self, steps: np.ndarray) -> np.ndarray:
        """Returns the seconds at steps, interpolated, float64[n]."""
        return np.interp(steps, self.steps, self.training + self.validation)

    @property
    def total(self) -> float:
        """Seconds of the whole run."""
        return float(self.training[-1] + self.validation[-1])

    @property
    def validation_share(self) -> float:
        """Share of validation in the seconds of the whole run."""
        return float(self.validation[-1]) / self.total if self.total else 0.0


def read_clock(run: Run) -> Clock | None:
    """Returns the clock of a run; None if its log does not have the speed."""
    if not (run.directory / METRICS_FILE).is_file():
        return None
    events, _ = read_log(run.directory)
    return clock(events, uses_scores(run))


def clock(events: Sequence[Event], counts_validation: bool) -> Clock | None:
    """Returns the clock of the events of a run; None if they do not have the speed.

    Args:
        events: the events.
        counts_validation: whether the validations are a cost of the schedule.
    """
    trains = [event for event in of_kind(events, "train") if event.get("tokens")]
    speeds = [_number(event.get("tokens_per_second")) for event in trains]
    known = [speed for speed in speeds if speed > 0]
    if not known:
        return None
    steps, training = [0], [0.0]
    for event, speed in zip(trains, speeds, strict=True):
        tokens = sum(_number(count) for count in event["tokens"].values())
        steps.append(event["step"])
        # The first event may have no speed, which excludes compilation.
        training.append(training[-1] + tokens / (speed if speed > 0 else known[0]))
    evaluations = of_kind(events, "evaluation") if counts_validation else []
    costs = [(event["step"], _seconds(event)) for event in evaluations]
    validation = [sum(seconds for at, seconds in costs if at <= step) for step in steps]
    return Clock(np.array(steps), np.array(training), np.array(validation, np.float64))


def over_seconds(curve: Curve, timed: Clock) -> tuple[np.ndarray, np.ndarray]:
    """Returns the seconds and the values of a curve over steps, float64[n] each."""
    return timed.at(np.array(list(curve))), np.array(list(curve.values()))


def _seconds(validation: Event) -> float:
    """Returns what a validation costs; one in the background costs what training waits for it."""
    return _number(validation.get("waited_seconds", validation.get("seconds")))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
