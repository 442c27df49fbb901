"""What training measures of the model for a schedule."""

import dataclasses

#: What can be measured: the mean loss of a token of dev pairs in nats, of the same pairs in every
#: measurement; the mean entropy of predicted tokens in nats, with dropout; 1 − the mean
#: over sentences of the geometric mean of the largest probability of each token, with dropout; the
#: mean cosine of the gradient of a training batch with those of dev batches of all tasks; and the
#: squared norm of the gradient of the loss, with the variance of the gradient of a batch.
QUANTITIES = ("dev_loss", "entropy", "improbability", "alignment", "gradient")


@dataclasses.dataclass(frozen=True)
class Measure:
    """What to measure for each task.

    Attributes:
        quantity: one of `QUANTITIES`.
        pairs: number of pairs of a batch of a task, >= 1; a task with fewer uses all.
        passes: number of passes with different dropout, >= 1.
    """

    quantity: str
    pairs: int = 32
    passes: int = 1

    @property
    def uses_dev(self) -> bool:
        """Whether it needs dev pairs of every task."""
        return self.quantity != "gradient"
