"""Stable sorting of integers by their digits, which takes a fraction of the time of comparisons."""

import numpy as np

_DIGIT_BITS = 16
# Below it, the comparisons of NumPy take less time than several passes.
_FEW = 512


def stable_order(keys: np.ndarray) -> np.ndarray:
    """Returns the order of integers; equal ones keep theirs.

    NumPy sorts 16-bit integers by their digits, and wider ones by comparisons, which take 5 to 9
    times as long. So wider ones are sorted by 16 bits at a time.

    Args:
        keys: int64[n], each >= 0.

    Returns:
        int64[n], `keys.argsort(kind="stable")`.
    """
    if len(keys) < _FEW:
        return keys.argsort(kind="stable")
    rest = int(keys.max())
    order = keys.astype(np.uint16).argsort(kind="stable")
    shift = _DIGIT_BITS
    while rest >> shift:
        digits = (keys[order] >> shift).astype(np.uint8 if rest >> shift < 256 else np.uint16)
        order = order[digits.argsort(kind="stable")]
        shift += _DIGIT_BITS
    return order
