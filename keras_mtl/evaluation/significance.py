"""The significance of a difference between scores: paired bootstrap."""

from collections.abc import Iterator, Sequence
from typing import Any

from keras_mtl.metrics import TEXT_METRICS


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
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.significance import PairedTest

    makers: dict[str, Any] = {"bleu": BLEU, "chrf": CHRF}
    systems = [(str(place), system) for place, system in enumerate([baseline, *others])]
    for metric in TEXT_METRICS:
        test = PairedTest(systems, {metric: makers[metric]()}, [references], "bs", samples)
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
