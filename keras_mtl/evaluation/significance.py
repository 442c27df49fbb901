"""The significance of a difference between scores: paired bootstrap."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.metrics import TEXT_METRICS

SEED = 12345
"""Seed of resamples, the default of sacrebleu."""


def paired_bootstrap(
    baseline: Sequence[str],
    others: Sequence[Sequence[str]],
    references: Sequence[str],
    samples: int = 1000,
) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Tests whether the scores of translations differ from those of a baseline.

    Args:
        baseline: the translations of the baseline.
        others: for each other system its translations of the same sentences.
        references: the references of these sentences.
        samples: number of bootstrap resamples.

    Yields:
        BLEU and chrF, each with (difference to the baseline, p-value) for every other system.

    Reference: Koehn 2004, "Statistical significance tests for machine translation evaluation", in
    the implementation of sacrebleu (`sacrebleu.significance.PairedTest`).
    """
    from sacrebleu.significance import PairedTest

    scorers = _scorers()
    systems = [(str(place), system) for place, system in enumerate([baseline, *others])]
    for metric in TEXT_METRICS:
        test = PairedTest(systems, {metric: scorers[metric]}, [references], "bs", samples)
        _, scores = test()
        # The column "System" contains the names.
        results: list[Any] = next(values for name, values in scores.items() if name != "System")
        first, *rest = results
        outcomes = []
        for system, result in zip(others, rest, strict=True):
            # The test counts resamples with a larger difference; for equal systems that is 0.
            p_value = 1.0 if list(system) == list(baseline) else float(result.p_value)
            outcomes.append((result.score - first.score, p_value))
        yield metric, outcomes


def bootstrap_scores(
    hypotheses: Sequence[str],
    references: Sequence[str],
    metric: str,
    samples: int = 1000,
    seed: int = SEED,
) -> np.ndarray:
    """Returns the score of translations, and their scores on resamples of the sentences.

    Systems that translate the same sentences are scored on the same resamples if `samples` and
    `seed` are equal. So their scores can be averaged, over tasks or over seeds of training, and
    compared by `paired_p_value`.

    Args:
        hypotheses: the translations of n sentences.
        references: their references.
        metric: `bleu` or `chrf`.
        samples: number of resamples, S.
        seed: seed of the resamples. The default gives those of `paired_bootstrap`.

    Returns:
        float64[1 + S]; the first is the score on the sentences themselves.
    """
    scorer = _scorers()[metric]
    # As in sacrebleu, resamples are scored from statistics of the sentences, which add up.
    statistics = np.array(scorer._extract_corpus_statistics(hypotheses, [references]), np.float64)
    count = len(statistics)
    drawn = np.random.default_rng(seed).choice(count, size=(samples, count), replace=True)
    times = np.stack([np.bincount(row, minlength=count) for row in [np.arange(count), *drawn]])
    sums = (times @ statistics).tolist()
    return np.array([scorer._compute_score_from_stats(row).score for row in sums])


def paired_p_value(difference: np.ndarray) -> float:
    """Returns the p-value of a difference of two systems.

    Args:
        difference: float64[1 + S], the difference of scores of `bootstrap_scores`, or of their
            means.

    Reference: sacrebleu (`sacrebleu.significance`), and Moses before it: the share of resamples
    whose absolute difference exceeds the mean one by more than the real one.
    """
    real, resampled = abs(float(difference[0])), np.abs(difference[1:])
    if not difference.any():
        return 1.0  # The test counts larger differences; for equal systems there is none.
    larger = int(np.sum(resampled - resampled.mean() > real))
    return (larger + 1) / (len(resampled) + 1)


def _scorers() -> Mapping[str, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return {"bleu": BLEU(), "chrf": CHRF()}
