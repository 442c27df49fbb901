"""Shuffling by arithmetic: a keyed pseudo-random permutation of 0 … n-1 that is never written out.

Any position can be asked for, at any time, in constant memory; that is what makes the reading state
of a task a single integer.
"""

import hashlib
import math

import numpy as np

# Six half rounds. Black and Rogaway prove security for three against an adversary who asks few
# questions; six make every order of tiny domains about equally frequent (tests measure it).
_HALF_ROUNDS = 6

_UINT64 = np.uint64
_SHIFT_30, _SHIFT_27, _SHIFT_31, _SHIFT_32 = (_UINT64(bits) for bits in (30, 27, 31, 32))
# Multipliers of the SplitMix64 finaliser (Steele, Lea and Flood 2014, variant 13 of D. Stafford).
_MULTIPLIER_1 = _UINT64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = _UINT64(0x94D049BB133111EB)


def _below(values: np.ndarray, key: np.uint64, limit: np.uint64) -> np.ndarray:
    """Hashes uint64 `values` under `key` to uint64 in [0, limit), limit <= 2^32."""
    mixed = values + key
    mixed ^= mixed >> _SHIFT_30
    mixed *= _MULTIPLIER_1
    mixed ^= mixed >> _SHIFT_27
    mixed *= _MULTIPLIER_2
    mixed ^= mixed >> _SHIFT_31
    mixed >>= _SHIFT_32  # the upper half, scaled: no division, bias below limit / 2^32
    mixed *= limit
    mixed >>= _SHIFT_32
    return mixed


class Permutation:
    """A bijection of {0, …, size-1}, chosen by (seed, name, epoch, purpose).

    A generalised Feistel network: x = left * b + right with left < a, right < b and a * b the
    smallest near-square product >= size; each half round adds a keyed hash of one half to the
    other, modulo its range. What falls on size or above is sent through again (cycle walking),
    which happens to fewer than one in sqrt(size) positions.

    Args:
        size: number of positions, 1 to 2^62.
        seed: seed of the run.
        name: what is shuffled, for example a task's name.
        epoch: number of the pass over it.
        purpose: tells apart several permutations of one epoch.

    Raises:
        ValueError: `size` is out of range.

    Reference: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002, section 5.
    """

    def __init__(self, size: int, seed: int, name: str, epoch: int, purpose: str) -> None:
        if not 1 <= size <= 1 << 62:
            raise ValueError(f"size of a permutation is {size}; it must be in [1, 2^62]")
        self.size = size
        left = math.isqrt(size - 1) + 1
        self._left = _UINT64(left)
        self._right = _UINT64(-(-size // left))
        # Lengths in front of the texts keep ("a", "bc") and ("ab", "c") apart.
        text = f"{seed}:{epoch}:{len(name)}:{name}:{purpose}"
        digest = hashlib.blake2b(text.encode(), digest_size=8 * _HALF_ROUNDS).digest()
        self._keys = np.frombuffer(digest, dtype="<u8").astype(_UINT64)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Maps positions to elements.

        Args:
            positions: int64[...], each in [0, size).

        Returns:
            int64 of the same shape: where each position goes, each in [0, size).

        Raises:
            IndexError: a position is out of range.
        """
        positions = np.asarray(positions, dtype=np.int64)
        if positions.size == 0:
            return positions.copy()
        if positions.min() < 0 or positions.max() >= self.size:
            raise IndexError(
                f"position {int(positions.min())} … {int(positions.max())} of a permutation of "
                f"{self.size} elements"
            )
        mapped = self._network(positions.astype(_UINT64).reshape(-1))
        size = _UINT64(self.size)
        outside = np.flatnonzero(mapped >= size)
        while outside.size:
            walked = self._network(mapped[outside])
            mapped[outside] = walked
            outside = outside[walked >= size]
        return mapped.astype(np.int64).reshape(positions.shape)

    def _network(self, values: np.ndarray) -> np.ndarray:
        """One pass over uint64[k] values below left * right: a bijection of that range."""
        left, right = np.divmod(values, self._right)
        for index in range(0, _HALF_ROUNDS, 2):
            left += _below(right, self._keys[index], self._left)
            left %= self._left
            right += _below(left, self._keys[index + 1], self._right)
            right %= self._right
        return left * self._right + right
