"""Whether a difference of scores is more than chance of the test set: paired bootstrap."""

from collections.abc import Iterator, Sequence
from typing import Any

from keras_mtl.metrics import TEXT_METRICS


def paired_bootstrap(
    baseline: Sequence[str],
    others: Sequence[Sequence[str]],
    references: Sequence[str],
    samples: int = 1000,
) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Tests whether translations score differently from those of a baseline.

    Args:
        baseline: translations.
        others: translations of the same sentences, by each system that is compared.
        references: references of these sentences.
        samples: number of bootstrap resamples.

    Yields:
        BLEU and chrF, each with (difference to the baseline, p-value) for every system.

    Reference: Koehn 2004, "Statistical significance tests for machine translation evaluation", as
    implemented by sacrebleu (`sacrebleu.significance.PairedTest`).
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.significance import PairedTest

    makers: dict[str, Any] = {"bleu": BLEU, "chrf": CHRF}
    systems = [(str(place), system) for place, system in enumerate([baseline, *others])]
    for metric in TEXT_METRICS:
        test = PairedTest(systems, {metric: makers[metric]()}, [references], "bs", samples)
        _, scores = test()
        # The other column holds the systems' names.
        results: list[Any] = next(values for name, values in scores.items() if name != "System")
        first, *rest = results
        outcomes = []
        for system, result in zip(others, rest, strict=True):
            # The test counts resamples above the difference, of which equal systems have none.
            p_value = 1.0 if list(system) == list(baseline) else float(result.p_value)
            outcomes.append((result.score - first.score, p_value))
        yield metric, outcomes
