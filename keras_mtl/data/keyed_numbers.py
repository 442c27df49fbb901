"""Random numbers by arithmetic: each is a function of its keys, and no generator has a state.

What changes examples when they are read (subword sampling, noise) takes its numbers from here. An
example therefore changes in the same way in a run that was stopped and resumed, in every process,
and whatever else is in its batch.
"""

import hashlib

import numpy as np

_UINT64 = np.uint64
_SHIFT_11, _SHIFT_27, _SHIFT_30, _SHIFT_31 = (_UINT64(bits) for bits in (11, 27, 30, 31))
# Multipliers of the SplitMix64 finalizer (Steele, Lea and Flood 2014, variant 13 of D. Stafford),
# and the increment of its counter.
_MULTIPLIER_1 = _UINT64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = _UINT64(0x94D049BB133111EB)
_INCREMENT = _UINT64(0x9E3779B97F4A7C15)


def mix(values: np.ndarray, scratch: np.ndarray | None = None) -> np.ndarray:
    """Scrambles uint64 values in place by a bijection, and returns them.

    Args:
        values: uint64[k], written to.
        scratch: uint64[k], written to; None allocates it.
    """
    for shift, multiplier in ((_SHIFT_30, _MULTIPLIER_1), (_SHIFT_27, _MULTIPLIER_2)):
        values ^= np.right_shift(values, shift, out=scratch)
        values *= multiplier
    values ^= np.right_shift(values, _SHIFT_31, out=scratch)
    return values


def example_keys(seed: int, name: str, purpose: str, step: int, indices: np.ndarray) -> np.ndarray:
    """Returns uint64[k], a key for each example of a task at a step.

    Args:
        seed: seed of the run.
        name: name of the task.
        purpose: what the numbers are for; different purposes have independent numbers.
        step: number of batches before that of the examples.
        indices: int64[k], the index of each example in its task.
    """
    # The length distinguishes ("a", "b:c") from ("a:b", "c").
    text = f"{seed}:{step}:{len(name)}:{name}:{purpose}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    base = np.frombuffer(digest, "<u8").astype(_UINT64)
    return mix(mix(indices.astype(_UINT64) * _INCREMENT + base))


def uniforms(keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns float64[sum(counts)] in [0, 1): `counts[i]` numbers of key i, then those of key i+1.

    Args:
        keys: uint64[k].
        counts: int64[k], each >= 0.
    """
    ends = np.cumsum(counts)
    numbers = np.arange(1, 1 + int(counts.sum())) - np.repeat(ends - counts, counts)
    values = mix(np.repeat(keys, counts) + numbers.astype(_UINT64) * _INCREMENT)
    return (values >> _SHIFT_11) * 2.0**-53
