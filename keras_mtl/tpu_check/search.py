"""The largest batch whose programs fit into a chip."""

import dataclasses
from collections.abc import Callable

# The search ends when the largest known size that fits and the smallest that does not differ by
# less than this share. Each attempt takes minutes.
_PRECISION = 0.03


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What is known of one size of a batch.

    Attributes:
        size: the size.
        fits: whether all programs fit.
        needed: memory of the largest program, in bytes; None if unknown.
    """

    size: int
    fits: bool
    needed: int | None


@dataclasses.dataclass(frozen=True)
class Largest:
    """The result of a search.

    Attributes:
        fits: the largest size that fits; 0 if none was found.
        too_large: the smallest size that does not fit; None if none was found.
        attempts: all attempts, in their order.
    """

    fits: int
    too_large: int | None
    attempts: tuple[Attempt, ...]


def find_largest(
    attempt: Callable[[int], Attempt], start: int, limit: int | None, most: int
) -> Largest:
    """Searches for the largest size that fits, by bisection.

    The memory that earlier attempts needed tells where to divide; near the limit it is not linear,
    because the compiler then computes values twice to save memory.

    Args:
        attempt: function that tries a size >= 1.
        start: the first size.
        limit: memory of a chip in bytes; None if unknown.
        most: maximum number of attempts, >= 1.
    """
    below, above = Attempt(0, True, None), None
    attempts = []
    size = start
    while True:
        found = attempt(size)
        attempts.append(found)
        if found.fits:
            below = found
        else:
            above = found
        if above is not None:
            span = above.size - below.size
            if span <= max(1, int(_PRECISION * below.size)):
                break
        if len(attempts) >= most:
            break
        size = _next(below, above, limit)
    return Largest(below.size, above.size if above else None, tuple(attempts))


def _next(below: Attempt, above: Attempt | None, limit: int | None) -> int:
    if above is None:
        guess = 2 * below.size
        if limit and below.needed:
            guess = int(below.size * limit / below.needed * (1 + _PRECISION)) + 1
        return min(max(guess, below.size + 1), 4 * below.size)
    low, high = below.size, above.size
    part = 0.5
    if limit and above.needed:
        needed = below.needed or 0
        if needed < limit < above.needed:
            part = (limit - needed) / (above.needed - needed)
    # Away from the ends, which are known.
    part = min(max(part, 0.2), 0.8)
    return min(max(low + round(part * (high - low)), low + 1), high - 1)
