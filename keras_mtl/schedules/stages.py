"""Stages of a schedule, which end after a number of steps or of passes over a task's data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.errors import ConfigError, nearest, nearest_task
from keras_mtl.schedules.registry import integer, number

_STAGE, _START = "stage", "stage_start"
_UNTIL = ("task", "epochs")


class Stages:
    """A list of stages; the last one does not end.

    If all stages end after steps, the stage is a function of the step and there is no state. If one
    ends with data, the state holds the current stage and its first step; `advance` changes it.

    Args:
        schedule: name of the schedule, for messages.
        stages: list of mappings with `steps: NUMBER` or `until: {task: NAME, epochs: NUMBER}`. The
            last one may omit both.
        keys: the other keys that a stage may have.
        tasks: names of the tasks.

    Attributes:
        count: number of stages.
        by_data: whether a stage ends with data.

    Raises:
        ConfigError: if the list is empty, a key or a task is unknown, or a number is out of range.
    """

    def __init__(self, schedule: str, stages: Any, keys: Sequence[str], tasks: Sequence[str]):
        form = ", ".join((*keys, "steps"))
        if not isinstance(stages, Sequence) or isinstance(stages, str) or not stages:
            raise ConfigError(
                f"schedule {schedule!r}: stages = {stages!r} must be a list with at least one "
                f"stage of the form {{{form}}}"
            )
        self.count = len(stages)
        self._schedule, self._tasks = schedule, tuple(tasks)
        # (steps, None) or (task, epochs) of each stage except the last.
        self._ends: list[tuple[int, float | None]] = []
        for place, stage in enumerate(stages):
            field = f"stages[{place}]"
            if not isinstance(stage, Mapping):
                raise ConfigError(
                    f"schedule {schedule!r}: {field} = {stage!r} must have the form {{{form}}}"
                )
            known = (*keys, "steps", "until")
            for key in stage:
                if key not in known:
                    raise ConfigError(
                        f"schedule {schedule!r}: {field} has the unknown field {key!r}"
                        f"{nearest(str(key), known)}"
                    )
            end = _end(schedule, field, stage, place == self.count - 1, tasks)
            if end is not None:
                self._ends.append(end)
        self._ends = self._ends[: self.count - 1]
        self.by_data = any(epochs is not None for _, epochs in self._ends)

    def init(self) -> dict[str, np.ndarray]:
        """Returns the state at step 0; empty if no stage ends with data."""
        if not self.by_data:
            return {}
        return {_STAGE: np.array(0, np.int64), _START: np.array(0, np.int64)}

    def at(self, step: int, state: Mapping[str, np.ndarray]) -> tuple[int, int]:
        """Returns the index of a step's stage and the first step of that stage."""
        stage, start = 0, 0
        if self.by_data:
            stage, start = min(int(state[_STAGE]), self.count - 1), int(state[_START])
        while stage < self.count - 1:
            steps, epochs = self._ends[stage]
            if epochs is not None or step - start < steps:
                break
            stage, start = stage + 1, start + steps
        return stage, start

    def advance(
        self,
        state: Mapping[str, np.ndarray],
        step: int,
        consumed: np.ndarray,
        upcoming: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Returns the state after the stages that have ended with data.

        A stage also ends if the task of its `until` has no next batch: its passes would never
        reach the number.

        Args:
            state: the state so far, possibly with other entries, which are kept.
            step: number of batches drawn.
            consumed: float64[N], passes over the data of each task.
            upcoming: as of `Schedule.advance`.
        """
        result = dict(state)
        while self.by_data:
            stage, _ = self.at(step, result)
            if stage == self.count - 1:
                break
            task, epochs = self._ends[stage]
            if epochs is None or (consumed[task] < epochs and np.isfinite(upcoming[task])):
                break
            result[_STAGE] = np.array(stage + 1, np.int64)
            result[_START] = np.array(step, np.int64)
        return result

    def earliest(self, first: int) -> list[int]:
        """Returns the first step that each stage can have, if the first stage begins at `first`."""
        # A stage that ends with data may end at once.
        steps = [steps if epochs is None else 0 for steps, epochs in self._ends]
        return [first + sum(steps[:stage]) for stage in range(self.count)]

    def check_limits(self, stop_at: np.ndarray, max_epochs: np.ndarray, first: int) -> None:
        """Checks that a stage can reach the passes of its `until` under the limits of tasks.

        Args:
            stop_at: as of `Schedule.check_limits`.
            max_epochs: as of `Schedule.check_limits`.
            first: smallest number of batches before the first stage.

        Raises:
            ConfigError: the task of an `until` may have fewer passes, or ends before the stage.
        """
        starts = self.earliest(first)
        for stage, (task, epochs) in enumerate(self._ends):
            if epochs is None:
                continue
            field = f"schedule {self._schedule!r}: stages[{stage}].until"
            name = self._tasks[task]
            if epochs > max_epochs[task]:
                raise ConfigError(
                    f"{field}.epochs = {epochs:g} is above max_epochs = {max_epochs[task]:g} of "
                    f"task {name!r}, which is not drawn that often. Use at most "
                    f"{max_epochs[task]:g}, or raise max_epochs"
                )
            if stop_at[task] <= starts[stage]:
                raise ConfigError(
                    f"{field}.task = {name!r} is not drawn in this stage: its stop_at ends it "
                    f"after {stop_at[task]:,.0f} batches, and the stage begins after "
                    f"{starts[stage]:,} or more. Raise stop_at, name another task, or let the "
                    "stage end after steps"
                )

    def bounds(self, start: int, stop: int, state: Mapping[str, np.ndarray]) -> list[int]:
        """Returns the steps between `start` and `stop` at which a stage ends after its steps."""
        found = []
        stage, first = self.at(start, state)
        while stage < self.count - 1 and self._ends[stage][1] is None:
            first += self._ends[stage][0]
            stage += 1
            if first >= stop:
                break
            found.append(first)
        return found


def _end(
    schedule: str, field: str, stage: Mapping[str, Any], last: bool, tasks: Sequence[str]
) -> tuple[int, float | None] | None:
    """Returns the end of a stage; None for a last stage without one."""
    steps, until = stage.get("steps"), stage.get("until")
    if steps is not None and until is not None:
        raise ConfigError(
            f"schedule {schedule!r}: {field} has both steps and until; give one of them"
        )
    if until is not None:
        if not isinstance(until, Mapping) or set(until) != set(_UNTIL):
            raise ConfigError(
                f"schedule {schedule!r}: {field}.until = {until!r} must have the form "
                "{task: en-fr, epochs: 2}"
            )
        name = str(until["task"])
        if name not in tasks:
            raise ConfigError(
                f"schedule {schedule!r}: {field}.until.task = {name!r} is not a task"
                f"{nearest_task(name, tasks)}"
            )
        hint = "passes over the task's data since the start of training"
        epochs = number(schedule, f"{field}.until.epochs", until["epochs"], hint=hint)
        if not epochs > 0:
            raise ConfigError(f"schedule {schedule!r}: {field}.until.epochs = {epochs} must be > 0")
        return tasks.index(name), epochs
    if steps is None:
        if last:
            return None
        raise ConfigError(
            f"schedule {schedule!r}: {field} has no steps; only the last stage may omit them (or "
            "end with data: until: {task: en-fr, epochs: 2})"
        )
    hint = "the number of steps of the stage"
    return integer(schedule, f"{field}.steps", steps, least=1, hint=hint), None
