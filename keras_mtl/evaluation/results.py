"""The result of an evaluation: scores of each task, and the pairs that were scored."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from keras_mtl.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """Evaluation of one task.

    Attributes:
        pairs: number of sentence pairs, >= 1.
        scores: value by metric name; see `keras_mtl.metrics.MetricResult` for the units.
        signatures: how each value was made, by metric name.
        seconds: time for translating and scoring.
        hypotheses: the translations, by rising length of the pair; empty if no metric needs them.
        references: their references.
        sources: what was translated.
    """

    pairs: int
    scores: Mapping[str, float]
    signatures: Mapping[str, str]
    seconds: float
    hypotheses: Sequence[str] = ()
    references: Sequence[str] = ()
    sources: Sequence[str] = ()

    @property
    def bleu(self) -> float | None:
        """Corpus BLEU in [0, 100]; None if it was not computed."""
        return self.scores.get("bleu")

    @property
    def chrf(self) -> float | None:
        """Corpus chrF in [0, 100]; None if it was not computed."""
        return self.scores.get("chrf")

    @property
    def neg_log_perplexity(self) -> float | None:
        """Mean log-probability of a reference token in nats; None if it was not computed."""
        return self.scores.get("neg_log_perplexity")


@dataclasses.dataclass(frozen=True)
class ScoredPairs:
    """The pairs on which a task is scored.

    Attributes:
        pairs: number of pairs that are scored.
        available: number of pairs in the split or in the corpora.
        digest: `keras_mtl.evaluation.translations.pairs_digest` of the scored pairs.
    """

    pairs: int
    available: int
    digest: str


def macro_average(results: Mapping[str, TaskResult], metric: str) -> float:
    """Returns the mean of a metric over tasks; each task counts the same.

    Raises:
        ConfigError: the metric was not evaluated.
    """
    values = []
    for result in results.values():
        if metric not in result.scores:
            raise ConfigError(f"{metric!r} was not evaluated{nearest(metric, result.scores)}")
        values.append(result.scores[metric])
    return math.fsum(values) / len(values)
