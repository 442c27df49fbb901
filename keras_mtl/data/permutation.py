"""Shuffling by arithmetic: keyed pseudo-random permutations of 0 … n-1 that are never stored.

The element at any position is computed in constant memory. This is why the reading state of a task
is a single integer.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.data.keyed_numbers import mix

# Six half rounds. Black and Rogaway prove security for three against an adversary with few queries.
# With six, all orders of tiny domains are about equally frequent (tests measure it).
_HALF_ROUNDS = 6

_UINT64 = np.uint64
_SHIFT_32 = _UINT64(32)


def _below(values: np.ndarray, key: Any, limit: Any) -> np.ndarray:
    """Hashes uint64 `values` under `key` to uint64 in [0, limit), limit <= 2^32."""
    mixed = mix(values + key)
    mixed >>= _SHIFT_32  # The scaled upper half needs no division; its bias is below limit / 2^32.
    mixed *= limit
    mixed >>= _SHIFT_32
    return mixed


class Permutation:
    """A bijection of {0, …, size-1}, chosen by (seed, name, epoch, purpose).

    A generalized Feistel network: x = left * b + right with left < a, right < b and a * b the
    smallest near-square product >= size; each half round adds a keyed hash of one half to the
    other, modulo its range. Results >= size pass the network again (cycle walking),
    which happens to fewer than one in sqrt(size) positions.

    Args:
        size: number of positions, 1 to 2^62.
        seed: seed of the run.
        name: key of the data that is shuffled, for example the name of a task.
        epoch: number of the pass over the data.
        purpose: distinguishes several permutations of one epoch.

    Raises:
        ValueError: `size` is out of range.

    Reference: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002, section 5.
    """

    def __init__(self, size: int, seed: int, name: str, epoch: int, purpose: str) -> None:
        if not 1 <= size <= 1 << 62:
            raise ValueError(f"size of a permutation is {size}; it must be in [1, 2^62]")
        self.size = size
        self._left, self._right = _factors(size)
        self._keys = _keys(seed, name, epoch, purpose)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Maps positions to elements.

        Args:
            positions: int64[...], each in [0, size).

        Returns:
            int64 of the same shape, the element at each position, in [0, size).

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
        mapped = _network(
            positions.astype(_UINT64).reshape(-1), self._left, self._right, self._keys
        )
        size = _UINT64(self.size)
        outside = np.flatnonzero(mapped >= size)
        while outside.size:
            walked = _network(mapped[outside], self._left, self._right, self._keys)
            mapped[outside] = walked
            outside = outside[walked >= size]
        return mapped.astype(np.int64).reshape(positions.shape)


class Permutations:
    """Evaluates the permutations of many names and epochs together.

    The results equal those of `Permutation`, in a fraction of the time if a call needs many
    permutations.

    Args:
        sizes: number of positions of each name.
        seed: seed of the run.
        names: keys of the data that is shuffled.
        purpose: as for `Permutation`.
    """

    def __init__(self, sizes: Sequence[int], seed: int, names: Sequence[str], purpose: str) -> None:
        self._sizes = np.array(sizes, _UINT64)
        factors = np.array([_factors(size) for size in sizes], _UINT64).reshape(-1, 2)
        self._left, self._right = factors[:, 0], factors[:, 1]
        self._seed = seed
        self._names = tuple(names)
        self._purpose = purpose
        self._known: dict[tuple[int, int], np.ndarray] = {}

    def __call__(self, which: np.ndarray, epochs: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Maps positions to elements.

        Args:
            which: int64[k], index of the name of each position.
            epochs: int64[k], each >= 0.
            positions: int64[k], each in [0, size of its name).

        Returns:
            int64[k], the element at each position.
        """
        if not len(which):
            return np.zeros(0, np.int64)
        # One number for each epoch of a name.
        groups, group = np.unique(epochs * len(self._names) + which, return_inverse=True)
        group_epochs, names = np.divmod(groups, len(self._names))
        keys = np.array(list(map(self._keys_of, names.tolist(), group_epochs.tolist()))).T
        keys = keys[:, group]
        left, right, size = self._left[which], self._right[which], self._sizes[which]
        mapped = _network(positions.astype(_UINT64), left, right, keys)
        outside = np.flatnonzero(mapped >= size)
        while outside.size:
            walked = _network(mapped[outside], left[outside], right[outside], keys[:, outside])
            mapped[outside] = walked
            outside = outside[walked >= size[outside]]
        return mapped.astype(np.int64)

    def _keys_of(self, which: int, epoch: int) -> np.ndarray:
        known = self._known.get((which, epoch))
        if known is None:
            if len(self._known) >= 4 * len(self._names) + 1024:
                self._known.clear()
            known = _keys(self._seed, self._names[which], epoch, self._purpose)
            self._known[which, epoch] = known
        return known


def _factors(size: int) -> tuple[np.uint64, np.uint64]:
    """Returns the smallest near-square left * right >= size."""
    left = math.isqrt(size - 1) + 1
    return _UINT64(left), _UINT64(-(-size // left))


def _keys(seed: int, name: str, epoch: int, purpose: str) -> np.ndarray:
    """Returns uint64[_HALF_ROUNDS]."""
    # The lengths distinguish ("a", "bc") from ("ab", "c").
    text = f"{seed}:{epoch}:{len(name)}:{name}:{purpose}"
    digest = hashlib.blake2b(text.encode(), digest_size=8 * _HALF_ROUNDS).digest()
    return np.frombuffer(digest, dtype="<u8").astype(_UINT64)


def _network(values: np.ndarray, left_size: Any, right_size: Any, keys: Any) -> np.ndarray:
    """Applies one pass to values below left * right; a bijection of that range.

    Args:
        values: uint64[k].
        left_size: uint64, or one for each value.
        right_size: uint64, or one for each value.
        keys: uint64[_HALF_ROUNDS], or uint64[_HALF_ROUNDS, k].
    """
    left, right = np.divmod(values, right_size)
    for index in range(0, _HALF_ROUNDS, 2):
        left += _below(right, keys[index], left_size)
        left %= left_size
        right += _below(left, keys[index + 1], right_size)
        right %= right_size
    return left * right_size + right
