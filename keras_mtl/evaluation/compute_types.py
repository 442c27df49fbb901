"""The effect of another compute type on translations and scores, and its significance."""

import dataclasses
from collections.abc import Mapping

from keras_mtl.evaluation.results import TaskResult
from keras_mtl.evaluation.significance import paired_bootstrap


@dataclasses.dataclass(frozen=True)
class ComputeTypeChange:
    """Compares the translations of a task with those of the same text by another compute type.

    Attributes:
        changed: fraction of the sentences with a different translation, in [0, 1].
        differences: the score minus that of the other type, by metric.
        p_values: the probability of such a difference by chance, by metric.
    """

    changed: float
    differences: Mapping[str, float]
    p_values: Mapping[str, float]


def compare_compute_types(result: TaskResult, other: TaskResult, samples: int) -> ComputeTypeChange:
    """Compares two results on the same sentences by paired bootstrap.

    Args:
        result: the result with one compute type.
        other: the result with the type to compare with.
        samples: number of bootstrap resamples.
    """
    pairs = zip(result.hypotheses, other.hypotheses, strict=True)
    changed = sum(ours != theirs for ours, theirs in pairs) / result.pairs
    differences, p_values = {}, {}
    tests = paired_bootstrap(other.hypotheses, [result.hypotheses], result.references, samples)
    for metric, [(difference, p_value)] in tests:
        if metric in result.scores:
            differences[metric], p_values[metric] = difference, p_value
    return ComputeTypeChange(changed, differences, p_values)
