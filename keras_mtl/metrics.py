"""Scores of translations: corpus BLEU, corpus chrF and negative log-perplexity.

Each metric says whether higher is better, and each value carries the signature of how it was made.
Nothing here knows tasks or models; sacrebleu is loaded when a score is first asked for.
"""

import dataclasses
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from keras_mtl.errors import ConfigError, InputError, nearest

TEXT_METRICS: tuple[str, ...] = ("bleu", "chrf")
"""Metrics that compare hypotheses with references."""

METRICS: tuple[str, ...] = (*TEXT_METRICS, "neg_log_perplexity")
"""All metrics; every one is better when higher."""


@dataclasses.dataclass(frozen=True)
class MetricResult:
    """One score.

    Attributes:
      value: BLEU and chrF in [0, 100]; negative log-perplexity in nats per token, <= 0.
      signature: how the value was made, for example sacrebleu's signature.
    """

    value: float
    signature: str


def check_metric(metric: str) -> str:
    """Returns the name of a metric that exists.

    Raises:
      ConfigError: the name is unknown.
    """
    if metric not in METRICS:
        raise ConfigError(f"unknown metric {metric!r}{nearest(metric, METRICS)}")
    return metric


def higher_is_better(metric: str) -> bool:
    """Whether a larger value of the metric is a better one; true of every metric here."""
    return check_metric(metric) in METRICS


def decimals(metric: str) -> int:
    """How many decimals of a score say something: of BLEU and chrF 1, of a log-perplexity 3."""
    return 1 if check_metric(metric) in TEXT_METRICS else 3


def schedule_score(metric: str, value: float) -> float:
    """Turns a score into the one that schedules compare with a task's baseline, which is >= 0.

    Args:
      metric: name of the metric.
      value: score as the metric gives it.

    Returns:
      BLEU and chrF as they are; a negative log-perplexity without its sign, of which lower is
      better (see `schedule_higher_is_better`). A task's baseline is in the same unit.
    """
    return value if schedule_higher_is_better(metric) else -value + 0.0


def schedule_higher_is_better(metric: str) -> bool:
    """Whether a larger `schedule_score` is a better one: the direction of a `ScoreBook`."""
    return check_metric(metric) in TEXT_METRICS


def score(metric: str, hypotheses: Sequence[str], references: Sequence[str]) -> MetricResult:
    """Scores a corpus of translations with one reference each.

    Args:
      metric: ``bleu`` (mixed case, 13a tokens, exponential smoothing) or ``chrf`` (chrF2: character
        6-grams, beta 2); sacrebleu's defaults.
      hypotheses: N >= 1 detokenised translations; an empty string is a translation.
      references: their N references.

    Returns:
      The value in [0, 100] and sacrebleu's signature.

    Raises:
      ConfigError: the metric is unknown or does not compare text.
      InputError: nothing to score, or the counts differ.

    Reference:
      Post, "A Call for Clarity in Reporting BLEU Scores", arXiv 1804.08771.
    """
    check_metric(metric)
    if metric not in TEXT_METRICS:
        raise ConfigError(
            f"metric {metric!r} does not compare text; use one of {', '.join(TEXT_METRICS)} here"
        )
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise InputError("hypotheses and references are lists of strings, not one string")
    if len(hypotheses) != len(references):
        raise InputError(
            f"{len(hypotheses)} hypotheses for {len(references)} references: each needs exactly one"
        )
    if not references:
        raise InputError(f"no sentence to score with {metric}: the set is empty")
    scorer = _scorer(metric)
    result = scorer.corpus_score(list(hypotheses), [list(references)])
    return MetricResult(float(result.score), str(scorer.get_signature()))


def neg_log_perplexity(total_nll: float, tokens: float) -> MetricResult:
    """Negative log-perplexity, the mean log-probability of a reference token.

    Args:
      total_nll: sum of the negative log-probabilities of all reference tokens, in nats.
      tokens: their number, ends of sentences included; > 0.

    Returns:
      ``-total_nll / tokens``: higher is better, 0 is perfect.

    Raises:
      InputError: no token, or a sum that is not finite.
    """
    if not tokens > 0:
        raise InputError(f"no token to take the perplexity of (tokens={tokens!r})")
    if not math.isfinite(total_nll):
        raise InputError(f"the sum of the tokens' losses is {total_nll!r}, not a finite number")
    # `+ 0.0` turns the -0.0 of a perfect model into 0.0.
    return MetricResult(-float(total_nll) / float(tokens) + 0.0, "neg_log_perplexity|nats|token")


@cache
def _scorer(metric: str) -> Any:
    # sacrebleu brings regular expressions and lxml: about 0.1 s that `--help` need not pay.
    if metric == "bleu":
        from sacrebleu.metrics.bleu import BLEU

        return BLEU()
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
