"""The registry of metrics, and the functions that score with them."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from keras_mtl.errors import ConfigError, InputError, nearest

TEXT_METRICS: tuple[str, ...] = ("bleu", "chrf")
"""The default metrics of translations."""

# Names are keys of JSON reports and of TensorBoard's scalars.
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclasses.dataclass(frozen=True)
class MetricResult:
    """A score and its signature.

    Attributes:
        value: the score: BLEU and chrF in [0, 100]; negative log-perplexity in nats per token,
            <= 0.
        signature: how the value was computed, for example sacrebleu's signature.
    """

    value: float
    signature: str


TextFunction = Callable[..., float | MetricResult]
"""Function of N >= 1 hypotheses and their N references that returns a score.

If the metric is registered with `uses`, it also takes these keyword arguments: `language`, the
target language, or "" if that is unknown; and `sources`, the N sources.
"""

LossFunction = Callable[[float, float], float | MetricResult]
"""Function of the sum of -log p of all reference tokens (nats) and their number, > 0."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes:
        name: name in configurations.
        title: name in tables and charts.
        unit: unit of its values, for example "nats per token".
        compares_text: whether `function` takes hypotheses and references instead of the loss.
        function: function that computes it.
        higher_is_better: direction of its values.
        negative: whether its values are <= 0; schedules then compare them without their sign.
        decimals: number of decimals in tables.
        uses: what `function` also takes as keyword arguments: `language`, `sources`.
        check: function of the target language that raises ConfigError if a package or a file that
            the metric requires is missing; None if it requires nothing.
    """

    name: str
    title: str
    unit: str
    compares_text: bool
    function: Callable[..., float | MetricResult]
    higher_is_better: bool = True
    negative: bool = False
    decimals: int = 1
    uses: tuple[str, ...] = ()
    check: Callable[[str], None] | None = None


_METRICS: dict[str, Metric] = {}


def register_text_metric(
    name: str,
    *,
    title: str,
    unit: str,
    higher_is_better: bool = True,
    decimals: int = 1,
    uses: Sequence[str] = (),
    check: Callable[[str], None] | None = None,
) -> Callable[[TextFunction], TextFunction]:
    """Registers a function of hypotheses and references as a metric; a decorator.

    Args:
        name: name in configurations: lower-case letters, digits and `_`.
        title: name in tables and charts.
        unit: unit of its values. They should be >= 0, because schedules divide them by a baseline.
        higher_is_better: direction of its values.
        decimals: number of decimals in tables.
        uses: what the function also takes as keyword arguments: `language`, the target language,
            and `sources`, the list of sources.
        check: function of the target language that raises ConfigError if a package or a file that
            the metric requires is missing. It is called before training and evaluation.

    Returns:
        The decorator.

    Raises:
        ConfigError: the name is invalid or taken.

    Example:
        ```python
        from keras_mtl import metrics

        @metrics.register_text_metric("exact", title="exact match", unit="% of the sentences")
        def exact_match(hypotheses, references):
            equal = sum(h == r for h, r in zip(hypotheses, references, strict=True))
            return 100 * equal / len(references)

        metrics.score("exact", ["deux", "trois"], ["deux", "trois fois"]).value  # 50.0
        ```
    """

    def register(function: TextFunction) -> TextFunction:
        _add(
            Metric(
                name,
                title,
                unit,
                True,
                function,
                higher_is_better,
                decimals=decimals,
                uses=tuple(uses),
                check=check,
            )
        )
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
    """Registers a function of the model's loss on the references as a metric; a decorator.

    The function takes the sum of the negative log-probabilities of all reference tokens, in nats,
    and the number of these tokens, including ends of sentences.

    Args:
        name: name in configurations: lower-case letters, digits and `_`.
        title: name in tables and charts.
        unit: unit of its values.
        higher_is_better: direction of its values.
        negative: whether its values are <= 0; schedules then compare them without their sign.
        decimals: number of decimals in tables.

    Returns:
        The decorator.

    Raises:
        ConfigError: the name is invalid or taken.

    Example:
        ```python
        import math
        from keras_mtl import metrics

        @metrics.register_loss_metric(
            "bits", title="bits", unit="bits per token", higher_is_better=False
        )
        def bits(total_nll, tokens):
            return total_nll / tokens / math.log(2)

        metrics.loss_score("bits", total_nll=6.93, tokens=10).value  # 1.0
        ```
    """

    def register(function: LossFunction) -> LossFunction:
        _add(Metric(name, title, unit, False, function, higher_is_better, negative, decimals))
        return function

    return register


def _add(metric: Metric) -> None:
    if not isinstance(metric.name, str) or not _NAME.fullmatch(metric.name):
        raise ConfigError(
            f"metric name {metric.name!r} is invalid; use lower-case letters, digits and _, as in "
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
    """Returns the names of all registered metrics, the built-in ones first."""
    return list(_METRICS)


def find(metric: str) -> Metric | None:
    """Returns a metric; None if it is not registered, for example if its plug-in is not loaded.

    Args:
        metric: name of the metric.
    """
    return _METRICS.get(metric)


def get(metric: str) -> Metric:
    """Returns a metric.

    Args:
        metric: name of the metric.

    Raises:
        ConfigError: the name is unknown.
    """
    found = _METRICS.get(metric)
    if found is None:
        raise ConfigError(
            f"unknown metric {metric!r}{nearest(str(metric), _METRICS)} (import a plug-in with "
            "--import to use its metrics)"
        )
    return found


def check_metric(metric: str) -> str:
    """Returns the name of a metric that exists.

    Args:
        metric: name of the metric.

    Raises:
        ConfigError: the name is unknown.
    """
    return get(metric).name


def check_requirements(metric: str, languages: Iterable[str] = ("",)) -> None:
    """Checks that the packages and files that a metric requires are installed.

    Args:
        metric: name of the metric.
        languages: the target languages that it scores.

    Raises:
        ConfigError: the metric is unknown, or something is missing.
    """
    found = get(metric)
    if found.check is not None:
        for language in languages:
            found.check(language)


def compares_text(metric: str) -> bool:
    """Returns whether a metric compares translations with references.

    Args:
        metric: name of the metric.
    """
    return get(metric).compares_text


def higher_is_better(metric: str) -> bool:
    """Returns whether larger values of a metric are better.

    Args:
        metric: name of the metric.
    """
    return get(metric).higher_is_better


def is_better(metric: str, value: float, other: float) -> bool:
    """Returns whether a score is better than another; False if they are equal or one is NaN.

    Args:
        metric: name of the metric.
        value: the score.
        other: the other score.
    """
    return value > other if higher_is_better(metric) else value < other


def title(metric: str) -> str:
    """Returns the title of a metric; the name if it is not registered.

    Args:
        metric: name of the metric.
    """
    found = find(metric)
    return metric if found is None else found.title


def ratio_title(metric: str) -> str:
    """Returns the title of what schedules compare with 1, such as `BLEU / baseline`.

    It is `baseline / TER` for a metric of which lower is better. Without its sign, that is also so
    of a negative log-perplexity (see `schedule_score`).

    Args:
        metric: name of the metric.
    """
    if find(metric) is not None and not schedule_higher_is_better(metric):
        return f"baseline / {title(metric)}"
    return f"{title(metric)} / baseline"


def decimals(metric: str) -> int:
    """Returns the number of decimals in tables: 1 for BLEU and chrF, 3 for a log-perplexity.

    2 of a metric that is not registered: a report may show one whose plug-in is not loaded.

    Args:
        metric: name of the metric.
    """
    found = find(metric)
    return 2 if found is None else found.decimals


def schedule_score(metric: str, value: float) -> float:
    """Converts a score to the value that schedules compare with a baseline, which is >= 0.

    Args:
        metric: name of the metric.
        value: score from the metric.

    Returns:
        BLEU and chrF as they are; a negative log-perplexity without its sign, of which lower is
        better (see `schedule_higher_is_better`). A task's baseline is in the same unit.
    """
    return -value + 0.0 if get(metric).negative else value


def schedule_higher_is_better(metric: str) -> bool:
    """Returns whether larger values of `schedule_score` are better, for a `ScoreBook`.

    Args:
        metric: name of the metric.
    """
    found = get(metric)
    return found.higher_is_better != found.negative


def score(
    metric: str,
    hypotheses: Sequence[str],
    references: Sequence[str],
    language: str = "",
    sources: Sequence[str] | None = None,
) -> MetricResult:
    """Scores a corpus of translations with one reference for each.

    Args:
        metric: a metric that compares text: of `keras_mtl.metrics.translations` or of a plug-in.
        hypotheses: N >= 1 detokenized translations; an empty string is a translation.
        references: their N references.
        language: the target language, for metrics that depend on it; "" if it is unknown.
        sources: the N sources, for metrics that use them; None if they are unknown.

    Returns:
        The value, of BLEU and chrF in [0, 100], and the signature.

    Raises:
        ConfigError: the metric is unknown, does not compare text, or requires a package or a file
            that is missing.
        InputError: nothing to score, the counts differ, sources are missing, or the value is not a
            finite number.

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
        raise InputError("hypotheses and references must be lists of strings, not one string")
    if len(hypotheses) != len(references):
        raise InputError(
            f"{len(hypotheses)} hypotheses for {len(references)} references; give one reference "
            "for each hypothesis"
        )
    if not references:
        raise InputError(f"there is no sentence to score with {metric}; give at least one")
    if "sources" in found.uses and (sources is None or len(sources) != len(references)):
        raise InputError(
            f"metric {metric!r} compares translations with their sources; give one source for each "
            "reference"
        )
    given = {"language": language, "sources": sources}
    more = {name: given[name] for name in found.uses}
    return _result(found, list(hypotheses), list(references), **more)


def loss_score(metric: str, total_nll: float, tokens: float) -> MetricResult:
    """Scores a model's loss on the references.

    Args:
        metric: `neg_log_perplexity`, or a loss metric of a plug-in.
        total_nll: sum of the negative log-probabilities of all reference tokens, in nats.
        tokens: number of these tokens, including ends of sentences; > 0.

    Raises:
        ConfigError: the metric is unknown or compares text.
        InputError: no token, a sum that is not finite, or the value is not.
    """
    found = get(metric)
    if found.compares_text:
        raise ConfigError(f"metric {metric!r} compares text, not losses; use `score`")
    if not tokens > 0:
        raise InputError(f"tokens = {tokens!r}: the loss needs at least one token")
    if not math.isfinite(total_nll):
        raise InputError(f"total_nll = {total_nll!r} must be a finite number")
    return _result(found, float(total_nll), float(tokens))


def _result(metric: Metric, *arguments: Any, **more: Any) -> MetricResult:
    value = metric.function(*arguments, **more)
    if isinstance(value, MetricResult):
        result = value
    else:
        number = isinstance(value, int | float) or hasattr(value, "__float__")
        signature = f"{metric.name}|{metric.function.__module__}"
        result = MetricResult(float(value) if number else math.nan, signature)
    if not math.isfinite(result.value):
        raise InputError(
            f"metric {metric.name!r} returned {value!r}; it must return a finite number"
        )
    return result
