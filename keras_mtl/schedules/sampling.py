"""Draws that depend only on (seed, step), so that a restart repeats them.

The generator is Philox-4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
keyed by seed and step. Its raw output is used directly: NumPy promises that a bit generator's
stream never changes, and does not promise it of `Generator.random` (NEP 19).
"""

import numpy as np

_MASK = (1 << 64) - 1
# Doubles have 53 bits: the upper 53 of 64 give multiples of 2^-53 in [0, 1).
_SHIFT = 11
_UNIT = 2.0**-53
# 2^64 / golden ratio, odd: multiples of the ratio modulo 1 fill [0, 1) most evenly.
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
    # side="right" skips tasks of probability 0, also the first one at u = 0.
    index = int(cumulative.searchsorted((raw >> _SHIFT) * _UNIT * total, side="right"))
    # For a subnormal total, u * total may round up to total itself.
    return index if index < len(cumulative) else int(probabilities.nonzero()[0][-1])


def uniforms(seed: int, step: int, count: int) -> np.ndarray:
    """Uniform numbers of a step; the first is the one that `sample` uses.

    Args:
        seed: any integer.
        step: any integer >= 0.
        count: how many, >= 0.

    Returns:
        float64[count] in [0, 1). A larger count extends the list and does not change it.
    """
    generator = np.random.Philox(key=((seed & _MASK) << 64) | (step & _MASK))
    return (generator.random_raw(count) >> np.uint64(_SHIFT)) * _UNIT


def pick(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Turns uniform numbers into tasks.

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
    """Deterministic draw of lowest discrepancy: the task that is furthest behind its share.

    The credit of a task is what it should have had so far, the sum of its probabilities over the
    steps, less what it has had. With constant probabilities this is arg max(weight * steps - count)
    (Megatron-LM's BlendedDataset). Keeping the credit instead of the count makes it right for
    probabilities that change, too: a task whose probability rises at step 1,000,000 is not owed
    the batches of all the steps before.

    Args:
        credit: float64[N], zeros at step 0, afterwards from the call before. It belongs to the
            state that a checkpoint saves; a task that joins starts at 0.
        probabilities: float64[N] of this step, >= 0, sums to 1.

    Returns:
        The index of the task (the lowest among equals; never one of probability 0) and the new
        credit, which sums to what it summed to before.

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
    """Evenly spaced numbers of a step in place of `uniforms`, for a draw of many at once.

    With `pick`, each task gets its expected number to within one. The offset of the grid moves by
    the golden ratio from one index to the next, so that what is rounded off evens out over steps;
    it is uniform over seeds, which keeps every expectation exact. Stateless.

    Args:
        seed: any integer.
        index: number of the draw, any integer >= 0.
        count: how many, >= 0.

    Returns:
        float64[count] in [0, 1), rising.

    Reference: systematic sampling (Madow & Madow 1944); Weyl's equidistribution for the offsets.
    """
    start = int(np.random.Philox(key=(seed & _MASK) << 64).random_raw())
    offset = ((start + index * _GOLDEN) & _MASK) >> _SHIFT
    # The largest one may round up to 1.
    return np.minimum((np.arange(count) + offset * _UNIT) / max(1, count), 1 - _UNIT)


def _bad(probabilities: np.ndarray) -> ValueError:
    return ValueError(
        f"probabilities must be >= 0 with a positive sum, not {probabilities.tolist()}"
    )
