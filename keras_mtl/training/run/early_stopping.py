"""Early stopping: the end of training if a score does not improve any more."""

import math
from collections.abc import Container, Mapping

import numpy as np

from keras_mtl.configuration.keeping import MACRO, WORST, StoppingConfig
from keras_mtl.training.run.selected_scores import SelectedScores

_KEY = "stopping"


class EarlyStopping:
    """Counts the validations without an improvement.

    Args:
        settings: section `trainer.stopping`.
        selected: computes the score that must improve.

    Attributes:
        best: the score of the last improvement; NaN before the first validation.
        step: step of its weights; -1 before.
        waited: number of validations since.
    """

    def __init__(self, settings: StoppingConfig, selected: SelectedScores) -> None:
        self._settings = settings
        self._selected = selected
        self.best, self.step, self.waited = math.nan, -1, 0

    def observe(
        self, step: int, scores: Mapping[str, float], scored: Container[str] | None = None
    ) -> None:
        """Counts a validation, unless it has not scored the task that counts.

        Args:
            step: step of the validated weights.
            scores: the latest score by task.
            scored: the tasks that this validation has scored; None: all.
        """
        name = self._settings.score
        old = scored is not None and name not in (MACRO, WORST) and name not in scored
        if old or not self._settings.patience:
            return
        value = self._selected.value(name, scores)
        gain = self._selected.improvement(name, value, self.best)
        if math.isnan(self.best) or (gain > 0 and gain >= self._settings.min_delta):
            self.best, self.step, self.waited = value, step, 0
        else:
            self.waited += 1

    def stops(self, step: int) -> bool:
        """Returns whether training ends at a step."""
        patience = self._settings.patience
        return 0 < patience <= self.waited and step >= self._settings.min_steps

    @property
    def reason(self) -> str:
        """Why training ends, for the user."""
        at_least = f" by {self._settings.min_delta:g}" if self._settings.min_delta else ""
        return (
            f"{self._selected.title(self._settings.score)} has not improved{at_least} in "
            f"{self.waited} validations; it was {self.best:.4g} at step {self.step:,}. Raise "
            "trainer.stopping.patience to continue"
        )

    def collect(self) -> dict[str, np.ndarray]:
        """Returns arrays for `restore`; none if training does not stop early."""
        if not self._settings.patience:
            return {}
        name = np.frombuffer(self._settings.score.encode(), np.uint8)
        return {
            _KEY: np.array([self.best, self.step, self.waited], np.float64),
            f"{_KEY}/score": name.copy(),
        }

    def restore(self, state: Mapping[str, np.ndarray], other_scores: Container[str] = ()) -> None:
        """Restores the arrays from `collect`, unless they are of another score.

        Args:
            state: the arrays, possibly among others.
            other_scores: names of scores that cannot be compared with those of this run.
        """
        self.best, self.step, self.waited = math.nan, -1, 0
        name = self._settings.score
        if _KEY not in state or state[f"{_KEY}/score"].tobytes() != name.encode():
            return
        if name not in other_scores:
            best, step, waited = state[_KEY]
            self.best, self.step, self.waited = float(best), int(step), int(waited)
