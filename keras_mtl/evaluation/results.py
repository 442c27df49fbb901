"""The result of an evaluation: the scores of each task, and the scored pairs."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from keras_mtl.errors import ConfigError, nearest
from keras_mtl.evaluation.samples import Sample


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """The result of one task.

    Attributes:
        pairs: number of sentence pairs, at least 1.
        scores: value by metric; see `keras_mtl.metrics.MetricResult` for the units.
        signatures: how each value was computed, by metric.
        seconds: time for translation and scoring.
        hypotheses: the translations, in ascending order of the length of the pair. Empty if no
            metric requires them.
        references: the references of the translations.
        sources: the sources of the translations.
        samples: a few of the sentences; see `keras_mtl.evaluation.samples`.
    """

    pairs: int
    scores: Mapping[str, float]
    signatures: Mapping[str, str]
    seconds: float
    hypotheses: Sequence[str] = ()
    references: Sequence[str] = ()
    sources: Sequence[str] = ()
    samples: Sequence[Sample] = ()

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
    """Which pairs of a task are scored.

    Attributes:
        pairs: number of scored pairs.
        available: number of pairs in the split or in the corpora.
        digest: `keras_mtl.evaluation.translations.pairs_digest` of the scored pairs.
    """

    pairs: int
    available: int
    digest: str


def all_signatures(results: Mapping[str, TaskResult]) -> dict[str, str]:
    """Returns the signature of each metric that a task has, in the order of the metrics."""
    return {
        metric: signature
        for result in results.values()
        for metric, signature in result.signatures.items()
    }


def macro_average(results: Mapping[str, TaskResult], metric: str) -> float:
    """Returns the mean of a metric over the tasks that have it, with equal weights.

    Raises:
        ConfigError: the metric was not evaluated.
    """
    values = [result.scores[metric] for result in results.values() if metric in result.scores]
    if not values:
        known = all_signatures(results)
        raise ConfigError(f"{metric!r} was not evaluated{nearest(metric, known)}")
    return math.fsum(values) / len(values)
