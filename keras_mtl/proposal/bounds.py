"""The set of allowed weights: each between its bounds, and their sum is 1."""

import numpy as np


def project(point: np.ndarray, scale: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns the allowed weights w with the least Σ scale_i (w_i − point_i)².

    Args:
        point: float64[N].
        scale: float64[N], > 0.
        low: float64[N], least weights, with a sum of at most 1.
        high: float64[N], largest weights, with a sum of at least 1.

    Returns:
        float64[N], sums to 1.
    """

    # The solution is w_i = point_i - shift/scale_i, cut at the bounds. Its sum is a falling,
    # piecewise linear function of the shift, with a kink where a weight reaches a bound.
    def cut(shift: np.ndarray) -> np.ndarray:
        return np.clip(point - shift[..., None] / scale, low, high)

    kinks = np.sort(np.concatenate([scale * (point - low), scale * (point - high)]))
    sums = cut(kinks).sum(axis=1)
    return cut(np.interp(-1.0, -sums, kinks))


def rescale(shares: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns allowed weights that are as proportional to some shares as the bounds permit.

    Args:
        shares: float64[N], > 0.
        low: float64[N], least weights, with a sum of at most 1.
        high: float64[N], largest weights, with a sum of at least 1.

    Returns:
        float64[N], sums to 1: `clip(factor * shares, low, high)` for some factor.
    """
    kinks = np.unique(np.concatenate([low / shares, high / shares]))
    sums = np.clip(kinks[:, None] * shares, low, high).sum(axis=1)
    return np.clip(np.interp(1.0, sums, kinks) * shares, low, high)
