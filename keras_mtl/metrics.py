"""Scores of translations: corpus BLEU, corpus chrF, negative log-perplexity, and those of plug-ins.

A metric compares translations with references (`register_text_metric`) or is a function of the
model's loss on the references (`register_loss_metric`). It says whether higher is better, and each
value carries the signature of how it was made. Nothing here knows tasks or models; sacrebleu is
loaded when a score is first computed.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from keras_mtl.errors import ConfigError, InputError, nearest

TEXT_METRICS: tuple[str, ...] = ("bleu", "chrf")
"""What is computed of translations unless other metrics are named."""

# A name is a key of JSON reports and of TensorBoard's scalars.
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclasses.dataclass(frozen=True)
class MetricResult:
    """One score.

    Attributes:
        value: BLEU and chrF in [0, 100]; negative log-perplexity in nats per token, <= 0.
        signature: how the value was made, for example sacrebleu's signature.
    """

    value: float
    signature: str


TextFunction = Callable[[Sequence[str], Sequence[str]], float | MetricResult]
"""From N >= 1 hypotheses and their N references to a score."""

LossFunction = Callable[[float, float], float | MetricResult]
"""From the sum of -log p of all reference tokens in nats, and their number > 0, to a score."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes:
        name: what configurations call it.
        title: what tables call it.
        unit: of its values, for example "nats per token".
        compares_text: whether `function` takes hypotheses and references; otherwise the loss.
        function: computes it.
        higher_is_better: its direction.
        negative: its values are <= 0; schedules compare them without their sign.
        decimals: of a score in a table.
    """

    name: str
    title: str
    unit: str
    compares_text: bool
    function: Callable[[Any, Any], float | MetricResult]
    higher_is_better: bool = True
    negative: bool = False
    decimals: int = 1


_METRICS: dict[str, Metric] = {}


def register_text_metric(
    name: str,
    *,
    title: str,
    unit: str,
    higher_is_better: bool = True,
    decimals: int = 1,
) -> Callable[[TextFunction], TextFunction]:
    """Decorator: makes a function of hypotheses and references a metric.

    Args:
        name: what configurations call it: lower-case letters, digits and `_`.
        title: what tables call it.
        unit: of its values; they should be >= 0, because schedules divide them by a baseline.
        higher_is_better: its direction.
        decimals: of a score in a table.

    Raises:
        ConfigError: the name is not allowed, or another function has it.

    Example:
        @register_text_metric("exact_match", title="exact match", unit="% of the sentences")
        def exact_match(hypotheses, references):
            return 100 * sum(map(operator.eq, hypotheses, references)) / len(references)
    """

    def register(function: TextFunction) -> TextFunction:
        _add(Metric(name, title, unit, True, function, higher_is_better, False, decimals))
        return function

    return register


def register_loss_metric(
    name: str,
    *,
    title: str,
    unit: str,
    higher_is_better: bool,
    negative: bool = False,
    decimals: int = 3,
) -> Callable[[LossFunction], LossFunction]:
    """Decorator: makes a function of the model's loss on the references a metric.

    The function takes the sum of the negative log-probabilities of all reference tokens, in nats,
    and their number, ends of sentences included.

    Args:
        name: as in `register_text_metric`, and so the next two and the last one.
        title: what tables call it.
        unit: of its values.
        higher_is_better: its direction.
        negative: its values are <= 0; schedules compare them without their sign.
        decimals: of a score in a table.

    Raises:
        ConfigError: the name is not allowed, or another function has it.
    """

    def register(function: LossFunction) -> LossFunction:
        _add(Metric(name, title, unit, False, function, higher_is_better, negative, decimals))
        return function

    return register


def _add(metric: Metric) -> None:
    if not isinstance(metric.name, str) or not _NAME.fullmatch(metric.name):
        raise ConfigError(
            f"metric name {metric.name!r}: write it in lower-case letters, digits and _, as in "
            "exact_match"
        )
    known = _METRICS.get(metric.name)
    same = ("__module__", "__qualname__")  # Of a module that is loaded again.
    if known and any(
        getattr(known.function, key, None) != getattr(metric.function, key, None) for key in same
    ):
        raise ConfigError(
            f"metric name {metric.name!r} is taken by {known.function.__module__}; choose another"
        )
    _METRICS[metric.name] = metric


def available() -> list[str]:
    """Names of all registered metrics, the built-in ones first."""
    return list(_METRICS)


def find(metric: str) -> Metric | None:
    """Returns a metric; None if it is not registered, as that of a plug-in that is not loaded."""
    return _METRICS.get(metric)


def get(metric: str) -> Metric:
    """Returns a metric.

    Raises:
        ConfigError: the name is unknown.
    """
    found = _METRICS.get(metric)
    if found is None:
        raise ConfigError(
            f"unknown metric {metric!r}{nearest(str(metric), _METRICS)} (one of a plug-in is known "
            "after --import)"
        )
    return found


def check_metric(metric: str) -> str:
    """Returns the name of a metric that exists.

    Raises:
        ConfigError: the name is unknown.
    """
    return get(metric).name


def compares_text(metric: str) -> bool:
    """Whether the metric compares translations with references."""
    return get(metric).compares_text


def higher_is_better(metric: str) -> bool:
    """Whether a larger value of the metric is a better one."""
    return get(metric).higher_is_better


def is_better(metric: str, value: float, other: float) -> bool:
    """Whether a score is better than another one; False if they are equal or one is NaN."""
    return value > other if higher_is_better(metric) else value < other


def title(metric: str) -> str:
    """What tables call a metric; the name of one that is not registered."""
    found = find(metric)
    return metric if found is None else found.title


def ratio_title(metric: str) -> str:
    """What tables and charts call a score divided by the task's baseline: `BLEU / baseline`."""
    return f"{title(metric)} / baseline"


def decimals(metric: str) -> int:
    """How many decimals of a score mean something: 1 of BLEU and chrF, 3 of a log-perplexity.

    2 of a metric that is not registered: a report may show one whose plug-in is not loaded.
    """
    found = find(metric)
    return 2 if found is None else found.decimals


def schedule_score(metric: str, value: float) -> float:
    """Turns a score into the one that schedules compare with a task's baseline, which is >= 0.

    Args:
        metric: name of the metric.
        value: score as the metric gives it.

    Returns:
        BLEU and chrF as they are; a negative log-perplexity without its sign, of which lower is
        better (see `schedule_higher_is_better`). A task's baseline is in the same unit.
    """
    return -value + 0.0 if get(metric).negative else value


def schedule_higher_is_better(metric: str) -> bool:
    """Whether a larger `schedule_score` is a better one: the direction of a `ScoreBook`."""
    found = get(metric)
    return found.higher_is_better != found.negative


def score(metric: str, hypotheses: Sequence[str], references: Sequence[str]) -> MetricResult:
    """Scores a corpus of translations with one reference each.

    Args:
        metric: `bleu` (mixed case, 13a tokens, exponential smoothing), `chrf` (chrF2: character
            6-grams, beta 2), both with sacrebleu's defaults, or that of a plug-in.
        hypotheses: N >= 1 detokenized translations; an empty string is a translation.
        references: their N references.

    Returns:
        The value, of BLEU and chrF in [0, 100], and the signature.

    Raises:
        ConfigError: the metric is unknown or does not compare text.
        InputError: nothing to score, the counts differ, or the value is not a finite number.

    Reference:
        Post, "A Call for Clarity in Reporting BLEU Scores", arXiv 1804.08771.
    """
    found = get(metric)
    if not found.compares_text:
        known = (name for name, each in _METRICS.items() if each.compares_text)
        raise ConfigError(
            f"metric {metric!r} does not compare text; use one of {', '.join(known)} here"
        )
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise InputError("hypotheses and references are lists of strings, not one string")
    if len(hypotheses) != len(references):
        raise InputError(
            f"{len(hypotheses)} hypotheses for {len(references)} references: each needs exactly one"
        )
    if not references:
        raise InputError(f"no sentence to score with {metric}: the set is empty")
    return _result(found, list(hypotheses), list(references))


def loss_score(metric: str, total_nll: float, tokens: float) -> MetricResult:
    """Scores a model's loss on the references.

    Args:
        metric: `neg_log_perplexity`, or that of a plug-in.
        total_nll: sum of the negative log-probabilities of all reference tokens, in nats.
        tokens: their number, ends of sentences included; > 0.

    Raises:
        ConfigError: the metric is unknown or compares text.
        InputError: no token, a sum that is not finite, or the value is not.
    """
    found = get(metric)
    if found.compares_text:
        raise ConfigError(f"metric {metric!r} compares text, and takes no loss")
    if not tokens > 0:
        raise InputError(f"no token to take the loss of (tokens={tokens!r})")
    if not math.isfinite(total_nll):
        raise InputError(f"the sum of the tokens' losses is {total_nll!r}, not a finite number")
    return _result(found, float(total_nll), float(tokens))


def _result(metric: Metric, *arguments: Any) -> MetricResult:
    value = metric.function(*arguments)
    if isinstance(value, MetricResult):
        result = value
    else:
        number = isinstance(value, int | float) or hasattr(value, "__float__")
        signature = f"{metric.name}|{metric.function.__module__}"
        result = MetricResult(float(value) if number else math.nan, signature)
    if not math.isfinite(result.value):
        raise InputError(f"metric {metric.name!r} gives {value!r}, not a finite number")
    return result


@register_text_metric("bleu", title="BLEU", unit="points, 0 to 100")
def _bleu(hypotheses: Sequence[str], references: Sequence[str]) -> MetricResult:
    return _sacrebleu("bleu", hypotheses, references)


@register_text_metric("chrf", title="chrF", unit="points, 0 to 100")
def _chrf(hypotheses: Sequence[str], references: Sequence[str]) -> MetricResult:
    return _sacrebleu("chrf", hypotheses, references)


def _sacrebleu(metric: str, hypotheses: Sequence[str], references: Sequence[str]) -> MetricResult:
    scorer = _scorer(metric)
    result = scorer.corpus_score(hypotheses, [references])
    return MetricResult(float(result.score), str(scorer.get_signature()))


@register_loss_metric(
    "neg_log_perplexity",
    title="−log perplexity",
    unit="nats per token",
    higher_is_better=True,
    negative=True,
)
def _neg_log_perplexity(total_nll: float, tokens: float) -> MetricResult:
    """The mean log-probability of a reference token: higher is better, 0 is perfect."""
    # `+ 0.0` turns the -0.0 of a perfect model into 0.0.
    return MetricResult(-total_nll / tokens + 0.0, "neg_log_perplexity|nats|token")


@cache
def _scorer(metric: str) -> Any:
    # sacrebleu brings regular expressions and lxml: about 0.1 s that `--help` need not pay.
    if metric == "bleu":
        from sacrebleu.metrics.bleu import BLEU

        return BLEU()
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
