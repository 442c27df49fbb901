"""The fitted laws of all tasks as one function of the weights, with its derivatives."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_mtl.proposal.double_power_law import DoublePowerLaw
from keras_mtl.proposal.log_linear import LogLinearLaw


@dataclasses.dataclass(frozen=True)
class Laws:
    """L_i(w) = limit_i + factor_i exp(Σ_j t_ij w_j) + falling_i w_i^(−α_i) + rising_i w_i^β_i.

    The law of a task is log-linear (falling and rising are 0), a double power law (factor is 0), or
    constant (all are 0).

    Attributes:
        limit: float64[N].
        factor: float64[N], 0 or 1.
        slopes: float64[N, N], t_ij.
        falling: float64[N].
        alpha: float64[N].
        rising: float64[N].
        beta: float64[N].
    """

    limit: np.ndarray
    factor: np.ndarray
    slopes: np.ndarray
    falling: np.ndarray
    alpha: np.ndarray
    rising: np.ndarray
    beta: np.ndarray

    @classmethod
    def of(cls, laws: "Sequence[LogLinearLaw | DoublePowerLaw | float]") -> "Laws":
        """Returns the laws of N tasks in order; a number is a constant loss."""
        count = len(laws)
        zeros = [np.zeros(count) for _ in range(4)]
        ones = [np.ones(count) for _ in range(2)]
        slopes = np.zeros((count, count))
        result = cls(zeros[0], zeros[1], slopes, zeros[2], ones[0], zeros[3], ones[1])
        for task, law in enumerate(laws):
            if isinstance(law, LogLinearLaw):
                result.limit[task], result.factor[task] = law.limit, 1.0
                result.slopes[task] = law.slopes[:count]
            elif isinstance(law, DoublePowerLaw):
                result.limit[task] = law.limit
                result.falling[task] = law.capacity**-law.alpha
                result.rising[task] = law.overfitting
                result.alpha[task], result.beta[task] = law.alpha, law.beta
            else:
                result.limit[task] = law
        return result

    def loss(self, weights: np.ndarray) -> np.ndarray:
        """Returns losses, float64[..., N], of weights, float64[..., N], > 0."""
        return (
            self.limit
            + self.factor * np.exp(np.minimum(50.0, weights @ self.slopes.T))
            + self.falling * weights**-self.alpha
            + self.rising * weights**self.beta
        )

    def gradient(self, weights: np.ndarray) -> np.ndarray:
        """Returns float64[N, N], the derivative of L_i with respect to w_j."""
        exponential = self.factor * np.exp(np.minimum(50.0, self.slopes @ weights))
        own = -self.alpha * self.falling * weights ** (-self.alpha - 1)
        own += self.beta * self.rising * weights ** (self.beta - 1)
        return exponential[:, None] * self.slopes + np.diag(own)

    def curvature(self, weights: np.ndarray) -> np.ndarray:
        """Returns float64[N, N], the second derivative of L_i with respect to w_j."""
        exponential = self.factor * np.exp(np.minimum(50.0, self.slopes @ weights))
        own = self.alpha * (self.alpha + 1) * self.falling * weights ** (-self.alpha - 2)
        own += self.beta * (self.beta - 1) * self.rising * weights ** (self.beta - 2)
        return exponential[:, None] * self.slopes**2 + np.diag(own)
