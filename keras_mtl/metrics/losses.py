"""The built-in metric of the model's loss on the references."""

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


def _neg_log_perplexity(total_nll: float, tokens: float) -> MetricResult:
    """Returns the mean log-probability of a reference token: higher is better, 0 is perfect."""
    # `+ 0.0` turns the -0.0 of a perfect model into 0.0.
    return MetricResult(-total_nll / tokens + 0.0, "neg_log_perplexity|nats|token")
