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


# Values that pass the network at once: the arrays of a pass then fit into the processor's cache.
_AT_ONCE = 8192
# Numbers below it are exact in float64, and so is the whole part of their quotients.
_EXACT = 1 << 53


def _add_hash(
    half: np.ndarray, other: np.ndarray, key: Any, limit: Any, mixed: np.ndarray, moved: np.ndarray
) -> None:
    """Adds a hash of the other half to a half, modulo its range; a half round.

    Args:
        half: uint64[k] below `limit`, written to.
        other: uint64[k].
        key: uint64, or one for each value.
        limit: uint64, at most 2^32, or one for each value.
        mixed: uint64[k], written to.
        moved: uint64[k], written to.
    """
    np.add(other, key, out=mixed)
    mix(mixed, moved)
    # The scaled upper half needs no division; its bias is below limit / 2^32.
    np.right_shift(mixed, _SHIFT_32, out=mixed)
    np.multiply(mixed, limit, out=mixed)
    np.right_shift(mixed, _SHIFT_32, out=mixed)
    np.add(half, mixed, out=half)
    # The sum is below 2 * limit. A difference below zero is a large uint64.
    np.subtract(half, limit, out=mixed)
    np.minimum(half, mixed, out=half)


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
        flat = positions.astype(_UINT64).reshape(-1)
        mapped = np.empty(len(flat), np.int64)
        for start in range(0, len(flat), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            size = _UINT64(self.size)
            mapped[part] = _walk(flat[part], self._left, self._right, size, self._keys)
        return mapped.reshape(positions.shape)


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
        groups, group = _numbered(epochs * len(self._names) + which)
        group_epochs, names = np.divmod(groups, len(self._names))
        keys = np.array(list(map(self._keys_of, names.tolist(), group_epochs.tolist()))).T
        left, right, size = self._left[names], self._right[names], self._sizes[names]
        values, mapped = positions.astype(_UINT64), np.empty(len(which), np.int64)
        for start in range(0, len(which), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            # Numbers are faster than arrays of equal numbers.
            own = group[part] if len(groups) > 1 else 0
            mapped[part] = _walk(values[part], left[own], right[own], size[own], keys[:, own])
        return mapped

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


def _numbered(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the different values, and the number of each value among them.

    The same as `np.unique` with `return_inverse`. If the values are close to each other, a table
    takes less time than sorting.

    Args:
        values: int64[k], k >= 1.
    """
    least = int(values.min())
    span = int(values.max()) - least + 1
    if span > 4 * len(values) + 1024:
        return np.unique(values, return_inverse=True)
    offsets = values - least
    there = np.zeros(span, bool)
    there[offsets] = True
    different = np.flatnonzero(there)
    numbers = np.empty(span, np.int64)
    numbers[different] = np.arange(len(different))
    return different + least, numbers[offsets]


def _walk(
    values: np.ndarray, left_size: Any, right_size: Any, size: Any, keys: np.ndarray
) -> np.ndarray:
    """Applies passes of the network to values until all are below `size` again.

    Args:
        values: uint64[k] below `size`.
        left_size: uint64, or one for each value.
        right_size: uint64, or one for each value.
        size: uint64, or one for each value.
        keys: uint64[_HALF_ROUNDS], or uint64[_HALF_ROUNDS, k].
    """
    mapped = _network(values, left_size, right_size, keys)
    outside = np.flatnonzero(mapped >= size)
    while outside.size:
        own = [each[outside] if np.ndim(each) else each for each in (left_size, right_size, size)]
        own_keys = keys[:, outside] if keys.ndim == 2 else keys
        walked = _network(mapped[outside], own[0], own[1], own_keys)
        mapped[outside] = walked
        outside = outside[walked >= own[2]]
    return mapped


def _network(values: np.ndarray, left_size: Any, right_size: Any, keys: Any) -> np.ndarray:
    """Applies one pass to values below left * right; a bijection of that range.

    Args:
        values: uint64[k].
        left_size: uint64, or one for each value.
        right_size: uint64, or one for each value.
        keys: uint64[_HALF_ROUNDS], or uint64[_HALF_ROUNDS, k].
    """
    if len(values) and int(values.max()) < _EXACT:
        left = (values / right_size).astype(_UINT64)  # Division of integers is slower.
    else:
        left = values // right_size
    right = values - left * right_size
    mixed, moved = np.empty_like(values), np.empty_like(values)
    for index in range(0, _HALF_ROUNDS, 2):
        _add_hash(left, right, keys[index], left_size, mixed, moved)
        _add_hash(right, left, keys[index + 1], right_size, mixed, moved)
    left *= right_size
    left += right
    return left
