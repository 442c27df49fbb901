"""Loss curves of bounded size: when they are full, neighboring points are merged."""

import numpy as np

from keras_mtl.schedules.base import State

POINTS = 64


class LossCurves:
    """The entries of a schedule's state that hold the loss curve of each task.

    Point k covers the batches from k · width to (k + 1) · width. The width doubles when a curve is
    full, so it has 32 to 64 points after the first batches.

    State: `<prefix>_sum` and `<prefix>_weight` float64[N, 64], sum of weight · loss and of weight;
    `<prefix>_width`, float64 scalar.

    Args:
        prefix: prefix of the names of the entries.
    """

    def __init__(self, prefix: str) -> None:
        self._sum, self._weight, self._width = (
            f"{prefix}_{name}" for name in ("sum", "weight", "width")
        )

    def init(self, num_tasks: int) -> State:
        """Returns empty curves."""
        return {
            self._sum: np.zeros((num_tasks, POINTS)),
            self._weight: np.zeros((num_tasks, POINTS)),
            self._width: np.array(1.0),
        }

    def add(self, state: State, position: float, losses: np.ndarray, weights: np.ndarray) -> State:
        """Returns the entries after a loss of each task.

        Args:
            state: state with the entries.
            position: number of batches at which the losses were measured, >= 0.
            losses: float64[N].
            weights: float64[N] >= 0; 0 for a task without a loss.
        """
        total, weight = state[self._sum].copy(), state[self._weight].copy()
        width = float(state[self._width])
        while position >= POINTS * width:
            total, weight = _merged(total), _merged(weight)
            width *= 2
        point = int(position // width)
        total[:, point] += weights * losses
        weight[:, point] += weights
        return {self._sum: total, self._weight: weight, self._width: np.array(width)}

    def points(self, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns positions, float64[64], and mean losses and weights, float64[N, 64] each.

        Weights are 1 for a point with a loss and 0 for one without. Losses are at least 1e-12.
        """
        positions = (np.arange(POINTS) + 0.5) * float(state[self._width])
        weight = state[self._weight]
        known = weight > 0
        means = state[self._sum] / np.where(known, weight, 1.0)
        return positions, np.maximum(means, 1e-12), known.astype(np.float64)


def _merged(points: np.ndarray) -> np.ndarray:
    """Returns sums of neighboring points in the first half, and zeros in the second."""
    half = points[:, 0::2] + points[:, 1::2]
    return np.concatenate([half, np.zeros_like(half)], axis=1)
