"""One schedule after the other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.errors import ConfigError
from keras_mtl.schedules.base import Schedule, State, apply_floor
from keras_mtl.schedules.creation import create
from keras_mtl.schedules.registry import register
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.sequential import stage_ends, stage_of
from keras_mtl.schedules.tasks import TaskInfo


@register
class Piecewise(Schedule):
    """The schedule of the stage that holds the step, which sees the step less its own start.

    Only the schedule of the present stage is updated. One that adapts therefore begins without
    scores; let its stage begin at a step at which scores arrive, and it has them from its first
    draw on.

    State: that of each stage's schedule, under `<number of the stage>/`.

    Args:
        tasks: the tasks.
        stages: list of {name: SCHEDULE, parameters: {...}, steps: NUMBER}; the steps of the last
            one may be left out, it does not end.
        floor: least probability of every task, in [0, 1/N], on top of the stages' own.

    Reference: Lingvo's PieceWiseScheduler. Choi et al. 2023, "Order matters", arXiv 2312.06134 is
    `sequential` or `constant` on the large tasks, followed by a mixture.
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
        self.ends = stage_ends(self.name, stages, ("name", "parameters", "steps"))
        self.starts = np.concatenate([np.zeros(1, np.int64), self.ends])
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
            self.children.append(child)
        self.adaptive = any(child.adaptive for child in self.children)
        self.scaling = any(child.scaling for child in self.children)
        self.uses_scores = any(child.uses_scores for child in self.children)
        self.uses_losses = any(child.uses_losses for child in self.children)

    def init(self) -> State:
        """The stages' states side by side."""
        return {
            f"{number}/{key}": value
            for number, child in enumerate(self.children)
            for key, value in child.init().items()
        }

    def weights(self, step: int, state: State) -> np.ndarray:
        """The probabilities of the stage's schedule."""
        number, child, step = self._stage(step)
        return child.probabilities(step, self._part(state, number))

    def probabilities(self, step: int, state: State) -> np.ndarray:
        """The probabilities of the stage's schedule, at the floor of both."""
        return apply_floor(self.weights(step, state), self.floor)

    def scales(self, step: int, state: State) -> np.ndarray:
        """The scales of the stage's schedule."""
        number, child, step = self._stage(step)
        return child.scales(step, self._part(state, number))

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Updates the stage's schedule; those still to come pass over the scores."""
        present, child, child_step = self._stage(step)
        result = dict(state)
        self._put(result, present, child.update(self._part(state, present), child_step, scores))
        for number in range(present + 1, len(self.children)):
            self._put(result, number, self.children[number].skip(self._part(state, number), scores))
        return result

    def skip(self, state: State, scores: ScoreBook) -> State:
        """All stages pass over the scores."""
        result = dict(state)
        for number, child in enumerate(self.children):
            self._put(result, number, child.skip(self._part(state, number), scores))
        return result

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """Each stage restores its own."""
        result = dict(state)
        for number, child in enumerate(self.children):
            self._put(result, number, child.rebalance(self._part(state, number), kept))
        return result

    def stage(self, step: int, state: State) -> tuple[Schedule, int, State]:
        """The schedule of the stage that holds a step, the stage's first step, and its state."""
        number, child, child_step = self._stage(step)
        return child, step - child_step, self._part(state, number)

    def _stage(self, step: int) -> tuple[int, Schedule, int]:
        number = stage_of(self.ends, step)
        return number, self.children[number], step - int(self.starts[number])

    def _part(self, state: State, number: int) -> State:
        prefix = f"{number}/"
        return {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }

    def _put(self, state: State, number: int, part: State) -> None:
        state.update({f"{number}/{key}": value for key, value in part.items()})
