"""A loop of training steps that can be interrupted after any step and continued later."""

import dataclasses
import time
from collections.abc import Callable, Mapping

import numpy as np

# Target duration of a call. Returning to Python then costs little, but progress and signals are
# fast.
_SECONDS_PER_CALL = 2.0
# Maximum growth of the number of steps per call, because the next batches may be much longer.
_GROWTH = 4


class Pace:
    """Chooses the number of steps that run before control returns to Python.

    The number depends on timing, so results must not depend on it.

    Args:
        clock: function that returns the time in seconds; tests pass their own.

    Attributes:
        measured: whether any steps have run.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._steps = 1
        self._begin = 0.0
        self.measured = False

    def start(self, most: int) -> int:
        """Returns the number of steps to run now, from 1 to `most`, and starts the clock."""
        self._begin = self._clock()
        return min(most, self._steps)

    def stop(self, steps: int) -> float:
        """Records that `steps` steps have run; returns the seconds since `start`."""
        seconds, self.measured = self._clock() - self._begin, True
        fitting = int(steps * _SECONDS_PER_CALL / max(seconds, 1e-6))
        self._steps = max(1, min(fitting, _GROWTH * steps))
        return seconds


class SaveClock:
    """Measures the time since the last checkpoint. When it saves does not change a run's results.

    Args:
        minutes: time after which a checkpoint is due; 0: never.
        clock: function that returns the time in seconds; tests pass their own.

    Attributes:
        used: whether checkpoints are ever due.
    """

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic):
        self._seconds = 60 * minutes
        self._clock = clock
        self.used = minutes > 0
        self.restart()

    def restart(self) -> None:
        """Starts to measure at 0, after a checkpoint."""
        self._begin = self._clock()

    @property
    def due(self) -> bool:
        """Whether a checkpoint is due."""
        return self.used and self._clock() - self._begin >= self._seconds


@dataclasses.dataclass
class OpenLoop:
    """The state of a loop of steps, from which its log event is computed.

    It is saved in checkpoints within a loop. So the event, and the losses for schedules that use
    them, do not depend on where the run was stopped.

    Attributes:
        start: step at which the loop started.
        consumed: int64 [N], number of batches (or examples) of each task consumed before `start`.
        scales: float64 [N], the factors on the tasks' updates for the whole loop.
        counted: number of the first batch that is not yet included in `given`.
        given: float64 [N], sum of the probabilities of the loop's batches.
        sums: the trainer's sums since `start`; empty before the first step.
    """

    start: int
    consumed: np.ndarray
    scales: np.ndarray
    counted: int
    given: np.ndarray
    sums: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def skipped(self) -> int:
        """Number of steps so far that were skipped."""
        return round(float(self.sums["skipped"]))

    def count(self, probabilities: Callable[[int], np.ndarray], consumed: int) -> None:
        """Adds the probabilities of the batches before `consumed` that are not yet included."""
        for batch in range(self.counted, consumed):
            self.given = self.given + probabilities(batch)
        self.counted = max(self.counted, consumed)

    def collect(self) -> dict[str, np.ndarray]:
        """Returns arrays for `from_arrays`."""
        return {
            "loop/places": np.array([self.start, self.counted], np.int64),
            "loop/consumed": self.consumed,
            "loop/scales": self.scales,
            "loop/given": self.given,
            **{f"loop/sums/{name}": value for name, value in self.sums.items()},
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], index_map: np.ndarray
    ) -> "OpenLoop | None":
        """Restores the loop in which a checkpoint was saved; None if it was saved between loops.

        Args:
            arrays: the arrays from `collect`, possibly among others.
            index_map: int64 [N], the saved index of each current task, -1 for a new one.
        """
        if "loop/places" not in arrays:
            return None

        def of_tasks(value: np.ndarray, missing: float) -> np.ndarray:
            if not value.ndim:
                return value
            found = np.full(len(index_map), missing, value.dtype)
            found[index_map >= 0] = value[index_map[index_map >= 0]]
            return found

        start, counted = map(int, arrays["loop/places"])
        prefix = "loop/sums/"
        renamed = {"weighed": "weighted_steps"}  # The name in older checkpoints.
        return cls(
            start,
            of_tasks(arrays["loop/consumed"], 0),
            of_tasks(arrays["loop/scales"], 1.0),
            counted,
            of_tasks(arrays["loop/given"], 0.0),
            {
                renamed.get(sum_name, sum_name): of_tasks(value, 0.0)
                for name, value in arrays.items()
                if (sum_name := name.removeprefix(prefix)) != name
            },
        )
