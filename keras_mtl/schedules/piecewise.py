"""The piecewise schedule: one schedule after the other."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.errors import ConfigError
from keras_mtl.schedules.base import Schedule, State, apply_floor
from keras_mtl.schedules.creation import create
from keras_mtl.schedules.registry import register
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.stages import Stages
from keras_mtl.schedules.tasks import TaskInfo


@register
class Piecewise(Schedule):
    """Uses the schedule of the stage that contains the step, counted from the start of the stage.

    Only the schedule of the current stage is updated, so an adaptive schedule begins without
    scores. Let its stage begin at a step at which scores arrive, so that it has them from its
    first draw on.

    State: the state of each stage's schedule, under `<index of the stage>/`; if a stage ends with
    data, also the index of the current stage and its first step.

    Args:
        tasks: the tasks.
        stages: list of {name: SCHEDULE, parameters: {...}, steps: NUMBER}. Instead of `steps`, a
            stage may have `until: {task: NAME, epochs: NUMBER}`: it ends when the data of the task
            has been passed over this often since the start of training. The last stage does not
            end.
        floor: least probability of every task, in [0, 1/N], in addition to those of the stages.

    Reference: Lingvo's PieceWiseScheduler. The method of Choi et al. 2023, "Order matters",
    arXiv 2312.06134, is `sequential` or `constant` on the large tasks, followed by a mixture.
    """

    name = "piecewise"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        stages: Sequence[Mapping[str, Any]],
        floor: float = 0.0,
    ) -> None:
        super().__init__(tasks, floor=floor)
        names = [task.name for task in self.tasks]
        self.stages = Stages(self.name, stages, ("name", "parameters"), names)
        self.children: list[Schedule] = []
        for number, stage in enumerate(stages):
            parameters = stage.get("parameters") or {}
            if not isinstance(parameters, Mapping):
                raise ConfigError(
                    f"schedule {self.name!r}: stages[{number}]: parameters = {parameters!r} must "
                    "be a mapping such as {temperature: 5}"
                )
            try:
                child = create(str(stage.get("name", "")), self.tasks, **parameters)
            except ConfigError as error:
                raise ConfigError(f"schedule {self.name!r}: stages[{number}]: {error}") from error
            if child.measures is not None:
                raise ConfigError(
                    f"schedule {self.name!r}: stages[{number}]: {child.name!r} measures the model, "
                    "and such a schedule cannot be a stage; use it as the only schedule"
                )
            self.children.append(child)
        self.adaptive = any(child.adaptive for child in self.children)
        self.scaling = any(child.scaling for child in self.children)
        self.uses_scores = any(child.uses_scores for child in self.children)
        self.uses_losses = any(child.uses_losses for child in self.children)
        self.interval = math.gcd(*(child.interval for child in self.children))
        self.uses_progress = self.stages.by_data or any(
            child.uses_progress for child in self.children
        )

    def init(self) -> State:
        """Returns the states of the stages' schedules, and the current stage."""
        return self.stages.init() | {
            f"{number}/{key}": value
            for number, child in enumerate(self.children)
            for key, value in child.init().items()
        }

    def weights(self, step: int, state: State) -> np.ndarray:
        """Returns the probabilities of the stage's schedule."""
        number, child, step = self._stage(step, state)
        return child.probabilities(step, self._part(state, number))

    def probabilities(self, step: int, state: State) -> np.ndarray:
        """Returns the probabilities of the stage's schedule, with the floors of both."""
        return apply_floor(self.weights(step, state), self.floor)

    def scales(self, step: int, state: State) -> np.ndarray:
        """Returns the scales of the stage's schedule."""
        number, child, step = self._stage(step, state)
        return child.scales(step, self._part(state, number))

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Updates the stage's schedule; the schedules of later stages skip the scores."""
        present, child, child_step = self._stage(step, state)
        result = dict(state)
        self._put(result, present, child.update(self._part(state, present), child_step, scores))
        for number in range(present + 1, len(self.children)):
            self._put(result, number, self.children[number].skip(self._part(state, number), scores))
        return result

    def advance(self, state: State, step: int, consumed: np.ndarray, upcoming: np.ndarray) -> State:
        """Goes to the next stage if the data of the current one has been passed over."""
        result = self.stages.advance(state, step, consumed, upcoming)
        number, child, child_step = self._stage(step, result)
        if child.uses_progress:
            part = child.advance(self._part(result, number), child_step, consumed, upcoming)
            self._put(result, number, part)
        return result

    def never_drawn(self) -> np.ndarray:
        """Returns which tasks no stage draws, bool[N]."""
        if self.floor > 0:
            return super().never_drawn()
        return np.all([child.never_drawn() for child in self.children], axis=0)

    def check_limits(self, stop_at: np.ndarray, max_epochs: np.ndarray, first: int = 0) -> None:
        """Checks that the limits let the stages that end with data end, in each stage too."""
        self.stages.check_limits(stop_at, max_epochs, first)
        starts = self.stages.earliest(first)
        for number, (child, start) in enumerate(zip(self.children, starts, strict=True)):
            try:
                child.check_limits(stop_at, max_epochs, start)
            except ConfigError as error:
                raise ConfigError(f"schedule {self.name!r}: stages[{number}]: {error}") from error

    def skip(self, state: State, scores: ScoreBook) -> State:
        """Lets the schedules of all stages skip the scores."""
        result = dict(state)
        for number, child in enumerate(self.children):
            self._put(result, number, child.skip(self._part(state, number), scores))
        return result

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """Rebalances the state of each stage's schedule."""
        result = dict(state)
        for number, child in enumerate(self.children):
            self._put(result, number, child.rebalance(self._part(state, number), kept))
        return result

    def stage(self, step: int, state: State) -> tuple[Schedule, int, State]:
        """Returns a step's schedule, the first step of its stage, and its state."""
        number, child, child_step = self._stage(step, state)
        return child, step - child_step, self._part(state, number)

    def _stage(self, step: int, state: State) -> tuple[int, Schedule, int]:
        number, start = self.stages.at(step, state)
        # The state does not hold earlier stages: steps before this one count as its first.
        return number, self.children[number], max(0, step - start)

    def _part(self, state: State, number: int) -> State:
        prefix = f"{number}/"
        return {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }

    def _put(self, state: State, number: int, part: State) -> None:
        state.update({f"{number}/{key}": value for key, value in part.items()})
