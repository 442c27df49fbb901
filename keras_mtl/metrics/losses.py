"""The built-in metrics of the model's loss on the references."""

import math

from keras_mtl.metrics.registry import MetricResult, register_loss_metric


def register_all() -> None:
    """Registers the metrics of this module."""
    register_loss_metric(
        "neg_log_perplexity",
        title="−log perplexity",
        unit="nats per token",
        higher_is_better=True,
        negative=True,
    )(_neg_log_perplexity)
    register_loss_metric(
        "perplexity",
        title="perplexity",
        unit="choices per token",
        higher_is_better=False,
        decimals=2,
    )(_perplexity)


def _neg_log_perplexity(total_nll: float, tokens: float) -> MetricResult:
    """Returns the mean log-probability of a reference token: higher is better, 0 is perfect."""
    # `+ 0.0` turns the -0.0 of a perfect model into 0.0.
    return MetricResult(-total_nll / tokens + 0.0, "neg_log_perplexity|nats|token")


def _perplexity(total_nll: float, tokens: float) -> MetricResult:
    """Returns exp of the mean negative log-probability of a token: lower is better, at least 1."""
    # Larger values would not fit into a float; no model that has learned anything has them.
    return MetricResult(math.exp(min(total_nll / tokens, 700.0)), "perplexity|token")
