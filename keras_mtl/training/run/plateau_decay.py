"""Decay of the learning rate on a plateau: when a score does not improve any more."""

from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from keras_mtl.configuration.keeping import PlateauConfig, StoppingConfig
from keras_mtl.training.run.early_stopping import EarlyStopping
from keras_mtl.training.run.selected_scores import SelectedScores

_KEY = "plateau"


class PlateauDecay:
    """Multiplies the learning rate by a factor when a score has not improved for some validations.

    Args:
        settings: section `trainer.optimizer.plateau`.
        selected: computes the score that must improve.
        factor: variable that multiplies the learning rate; None if it never decays.
    """

    def __init__(self, settings: PlateauConfig, selected: SelectedScores, factor: Any) -> None:
        self._settings = settings
        self._factor = factor
        self._count = EarlyStopping(
            StoppingConfig(settings.score, settings.patience, settings.min_delta), selected
        )

    def observe(
        self, step: int, scores: Mapping[str, float], scored: Container[str] | None = None
    ) -> float | None:
        """Counts a validation as `EarlyStopping.observe` does.

        Args:
            step: step of the validated weights.
            scores: the latest score by task.
            scored: the tasks that this validation has scored; None: all.

        Returns:
            The new factor if the learning rate decays, else None.
        """
        if self._factor is None:
            return None
        self._count.observe(step, scores, scored)
        if not self._count.stops(step):
            return None
        self._count.waited = 0
        before = self._factor.numpy()
        after = np.float32(max(before * self._settings.factor, self._settings.min_factor))
        if after >= before:
            return None
        self._factor.assign(after)
        return float(after)

    def collect(self) -> dict[str, np.ndarray]:
        """Returns arrays for `restore`; none if the learning rate never decays."""
        if self._factor is None:
            return {}
        count = {f"{_KEY}/{key}": value for key, value in self._count.collect().items()}
        return {f"{_KEY}/factor": np.array(self._factor.numpy()), **count}

    def restore(
        self, state: Mapping[str, np.ndarray], same_metric: bool, other_scores: Container[str] = ()
    ) -> None:
        """Restores the arrays from `collect`; the factor also if the count is of other scores.

        Args:
            state: the arrays, possibly among others.
            same_metric: whether the scores of the tasks are of the same metric.
            other_scores: see `EarlyStopping.restore`.
        """
        if self._factor is None:
            return
        prefix = f"{_KEY}/"
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        self._factor.assign(own.pop("factor", np.float32(1.0)))
        self._count.restore(own if same_metric else {}, other_scores)
