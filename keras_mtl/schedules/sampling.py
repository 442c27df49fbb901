"""Draws that depend only on (seed, step), so that a restart repeats them.

The generator is Philox-4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
keyed by seed and step. Its raw output is used directly: NumPy guarantees that the stream of a bit
generator never changes, but does not guarantee it for `Generator.random` (NEP 19).
"""

import numpy as np

_MASK = (1 << 64) - 1
# Doubles have 53 bits: the upper 53 bits of 64 give multiples of 2^-53 in [0, 1).
_SHIFT = 11
_UNIT = 2.0**-53
# 2^64 / golden ratio, made odd: multiples of the ratio modulo 1 fill [0, 1) most evenly.
_GOLDEN = 0x9E3779B97F4A7C15


def sample(seed: int, step: int, probabilities: np.ndarray) -> int:
    """Draws the task of a step.

    Args:
        seed: any integer.
        step: any integer >= 0.
        probabilities: float64[N], >= 0, with a positive sum (1 up to rounding).

    Returns:
        Index of a task with a positive probability.

    Raises:
        ValueError: if a probability is negative or NaN, or all are zero.
    """
    raw = np.random.Philox(key=((seed & _MASK) << 64) | (step & _MASK)).random_raw()
    probabilities = np.asarray(probabilities, np.float64)
    cumulative = probabilities.cumsum()
    total = cumulative[-1]
    if not (total > 0 and probabilities.min() >= 0):
        raise _bad(probabilities)
    # side="right" skips tasks of probability 0, including a first one at u = 0.
    index = int(cumulative.searchsorted((raw >> _SHIFT) * _UNIT * total, side="right"))
    # For a subnormal total, u * total may round up to total itself.
    return index if index < len(cumulative) else int(probabilities.nonzero()[0][-1])


def uniforms(seed: int, step: int, count: int) -> np.ndarray:
    """Returns uniform numbers of a step; `sample` uses the first of them.

    Args:
        seed: any integer.
        step: any integer >= 0.
        count: how many numbers, >= 0.

    Returns:
        float64[count] in [0, 1). A larger count adds numbers and does not change the first ones.
    """
    generator = np.random.Philox(key=((seed & _MASK) << 64) | (step & _MASK))
    return (generator.random_raw(count) >> np.uint64(_SHIFT)) * _UNIT


def pick(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Maps uniform numbers to tasks.

    Args:
        probabilities: float64[N], >= 0, with a positive sum.
        uniform: float64[count] in [0, 1), from `uniforms`.

    Returns:
        int64[count], indices of tasks with a positive probability.

    Raises:
        ValueError: if a probability is negative or NaN, or all are zero.
    """
    probabilities = np.asarray(probabilities, np.float64)
    cumulative = probabilities.cumsum()
    total = cumulative[-1]
    if not (total > 0 and probabilities.min() >= 0):
        raise _bad(probabilities)
    indices = cumulative.searchsorted(np.asarray(uniform) * total, side="right")
    return np.minimum(indices, probabilities.nonzero()[0][-1])


def blend(credit: np.ndarray, probabilities: np.ndarray) -> tuple[int, np.ndarray]:
    """Draws the task that is furthest behind its share; deterministic.

    The credit of a task is the sum of its probabilities over the steps so far, minus the number of
    its draws. With constant probabilities the draw is arg max(weight * steps - count), as in
    Megatron-LM's BlendedDataset. Because the credit is kept instead of the count, the draw is also
    right if probabilities change: a task whose probability rises at step 1,000,000 does not catch
    up on the steps before.

    Args:
        credit: float64[N], zeros at step 0, then the result of the previous call. It is part of
            the state in a checkpoint; a new task starts at 0.
        probabilities: float64[N] of this step, >= 0, sums to 1.

    Returns:
        The index of the task (the lowest of equal ones; its probability is never 0), and the new
        credit, whose sum has not changed.

    Raises:
        ValueError: if a probability is negative or NaN, or all are zero.
    """
    probabilities = np.asarray(probabilities, np.float64)
    if not (probabilities.min() >= 0 and probabilities.sum() > 0):
        raise _bad(probabilities)
    credit = np.asarray(credit, np.float64) + probabilities
    task = int(np.argmax(np.where(probabilities > 0, credit, -np.inf)))
    credit[task] -= 1
    return task, credit


def systematic(seed: int, index: int, count: int) -> np.ndarray:
    """Returns evenly spaced numbers in place of `uniforms`, to draw many tasks at once.

    With `pick`, the count of each task is within one of its expectation. The offset of the grid
    moves by the golden ratio from one index to the next, so rounding evens out over draws. The
    offset is uniform over seeds, which keeps every expectation exact. The function is stateless.

    Args:
        seed: any integer.
        index: number of the draw, any integer >= 0.
        count: how many numbers, >= 0.

    Returns:
        float64[count] in [0, 1), increasing.

    Reference: systematic sampling (Madow & Madow 1944); Weyl's equidistribution for the offsets.
    """
    start = int(np.random.Philox(key=(seed & _MASK) << 64).random_raw())
    offset = ((start + index * _GOLDEN) & _MASK) >> _SHIFT
    # The largest number may round up to 1.
    return np.minimum((np.arange(count) + offset * _UNIT) / max(1, count), 1 - _UNIT)


def _bad(probabilities: np.ndarray) -> ValueError:
    return ValueError(
        f"probabilities must be >= 0 with a positive sum, not {probabilities.tolist()}"
    )
