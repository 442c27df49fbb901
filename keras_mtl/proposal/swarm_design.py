"""The weights of the proxy runs: where in the space of weights the losses are measured."""

from collections.abc import Sequence

import numpy as np

from keras_mtl.proposal.bounds import rescale

# Concentration of the Dirichlet distribution, for each task: below 1, most runs favor a few tasks;
# above, they are near the center.
_LEAST_CONCENTRATION, _LARGEST_CONCENTRATION = 0.5, 5.0
# Draws of a gamma distribution with a small shape underflow to 0.
_TINY = 1e-12
# Weights of added tasks are spread evenly on a logarithmic scale, over this ratio of largest to
# least, and together they get at most this much.
_ADDED_RATIO, _MOST_ADDED = 100.0, 0.8
# A configuration file shows this number of digits.
_DIGITS = 6


def swarm_size(tasks: int) -> int:
    """Returns the default number of proxy runs for a number of tasks.

    It is linear in the number of tasks (arXiv 2602.12237): the log-linear law has a coefficient for
    each of them, and three runs for each coefficient leave something to average.
    """
    return 3 * (tasks + 1)


def mixture(
    seed: int, index: int, natural: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Returns the weights of a proxy run, a function of its arguments only.

    The first run has the natural distribution and the second one equal weights, both within the
    bounds. The others are drawn from Dirichlet distributions. Their centers lie between these two,
    at natural^e with exponents e that are spread evenly over (0, 1), and their concentrations are
    spread evenly, too.

    Args:
        seed: seed of the swarm.
        index: number of the run, >= 0.
        natural: float64[N], shares of the tasks by their sizes; > 0.
        low: float64[N], least weights.
        high: float64[N], largest weights.

    Returns:
        float64[N], sums to 1, rounded.
    """
    if index == 0:
        shares = natural
    elif index == 1:
        shares = np.ones(len(natural))
    else:
        center = natural ** _spread(index - 1, 2)
        ratio = _LARGEST_CONCENTRATION / _LEAST_CONCENTRATION
        concentration = _LEAST_CONCENTRATION * ratio ** _spread(index - 1, 3)
        alpha = concentration * len(natural) * center / center.sum()
        shares = np.random.default_rng([seed, index]).standard_gamma(alpha) + _TINY
    return rounded(rescale(shares, low, high))


def mixture_with_added(
    seed: int,
    index: int,
    place: int,
    natural: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    added: Sequence[int],
) -> np.ndarray:
    """Returns the weights of a proxy run for tasks that were added to a swarm.

    Few runs must tell how the losses depend on these tasks, so their weights are spread evenly. The
    other tasks share the rest as in `mixture`.

    Args:
        seed: seed of the swarm.
        index: number of the run among all, >= 0.
        place: number of the run among those that have the added tasks, >= 0.
        natural: float64[N], shares of the tasks by their sizes; > 0.
        low: float64[N], least weights.
        high: float64[N], largest weights.
        added: indices of the added tasks.

    Returns:
        float64[N], sums to 1, rounded.
    """
    weights = mixture(seed, index, natural, low, high)
    own = list(added)
    top = np.minimum(high[own], _MOST_ADDED)
    spread = np.array([_spread(place + 1, _prime(number)) for number in range(len(own))])
    given = np.maximum(low[own], top * _ADDED_RATIO ** (spread - 1))
    given *= min(1.0, _MOST_ADDED / given.sum())
    others = np.delete(np.arange(len(weights)), own)
    weights[others] *= (1 - given.sum()) / weights[others].sum()
    weights[own] = given
    return rounded(rescale(weights, low, high))


def rounded(weights: np.ndarray) -> np.ndarray:
    """Returns weights with a few digits that still sum to 1; the largest one takes the rest."""
    result = np.round(weights, _DIGITS)
    largest = int(result.argmax())
    result[largest] = round(1.0 - float(np.delete(result, largest).sum()), _DIGITS)
    return result


def _spread(index: int, base: int) -> float:
    """Returns a term of the van der Corput sequence: any first terms cover (0, 1) evenly."""
    value, part = 0.0, 1.0
    while index:
        index, digit = divmod(index, base)
        part /= base
        value += digit * part
    return value


def _prime(number: int) -> int:
    """Returns a prime number, 2 for 0."""
    found: list[int] = []
    candidate = 2
    while len(found) <= number:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found[-1]
