"""Metrics of translations: BLEU, chrF, TER, negative log-perplexity, and the metrics of plug-ins.

A metric compares translations with references (`register_text_metric`) or is a function of the
model's loss on the references (`register_loss_metric`). It has a direction, and each value has a
signature that says how it was computed. These modules do not depend on tasks or models. They load
sacrebleu when a score is first computed.
"""

from keras_mtl.metrics import losses, translations
from keras_mtl.metrics.registry import (
    TEXT_METRICS,
    LossFunction,
    Metric,
    MetricResult,
    TextFunction,
    available,
    check_metric,
    check_requirements,
    compares_text,
    decimals,
    find,
    get,
    higher_is_better,
    is_better,
    loss_score,
    ratio_title,
    register_loss_metric,
    register_text_metric,
    schedule_higher_is_better,
    schedule_score,
    score,
    title,
)

__all__ = [
    "TEXT_METRICS",
    "LossFunction",
    "Metric",
    "MetricResult",
    "TextFunction",
    "available",
    "check_metric",
    "check_requirements",
    "compares_text",
    "decimals",
    "find",
    "get",
    "higher_is_better",
    "is_better",
    "loss_score",
    "ratio_title",
    "register_loss_metric",
    "register_text_metric",
    "schedule_higher_is_better",
    "schedule_score",
    "score",
    "title",
]

# The built-in metrics, in the order in which they are listed.
translations.register_all()
losses.register_all()
