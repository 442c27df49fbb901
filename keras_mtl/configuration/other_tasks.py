"""Sections for tasks other than translation, and for sampling of subwords."""

import dataclasses
from typing import Protocol

TRANSLATION, DENOISING, LANGUAGE_MODEL = "translation", "denoising", "language_model"
KINDS = (TRANSLATION, DENOISING, LANGUAGE_MODEL)
WORDS, MASS = "words", "mass"
NOISES = (WORDS, MASS)
UNITS = ("word", "piece")
SIDES = ("both", "source", "target")


@dataclasses.dataclass(slots=True)
class NoiseConfig:
    """The noise of a denoising task.

    Attributes:
        method: `words`: units of the text are dropped, replaced by a blank and shuffled, and the
            task is to restore the text (arXiv 1711.00043, section 2.3). `mass`: a span of the text
            is masked, and the task is to predict only the span (arXiv 1905.02450).
        drop: probability that a unit is dropped, in [0, 1); of `words`.
        blank: probability that a unit is replaced by a blank, in [0, 1); of `words`.
        shuffle: largest distance that shuffling moves a unit, in units; 0 keeps the order; of
            `words`.
        unit: `word`, or `piece`, for languages that do not write spaces between words; of `words`.
        span: length of the span as a share of the text, in (0, 1]; of `mass`.
    """

    method: str = WORDS
    drop: float = 0.1
    blank: float = 0.1
    shuffle: int = 3
    unit: str = "word"
    span: float = 0.5


@dataclasses.dataclass(slots=True)
class SubwordSamplingConfig:
    """Subword regularization: training segments texts differently each time it reads them.

    Attributes:
        enabled: whether to sample.
        side: `both`, or only the `source` or `target`. The text of a task with one side is its
            target.
        alpha: exponent of the probability of a segmentation with a unigram vocabulary (arXiv
            1804.10959); > 0. Lower values differ more from the usual segmentation.
        dropout: probability that a merge is left out with a BPE vocabulary (arXiv 1910.13267); in
            [0, 1).
        growth: room in a batch for the additional pieces, as a share of the usual ones; >= 0. If a
            text has no room left, the rest of its words keep their usual segmentation.
    """

    enabled: bool = False
    side: str = "both"
    alpha: float = 0.3
    dropout: float = 0.1
    growth: float = 0.3


class HasKind(Protocol):
    """A task with its kind."""

    @property
    def kind(self) -> str:
        """One of `KINDS`."""


def is_translation(pair: HasKind) -> bool:
    """Whether a task is translation, and not of one side of its corpora."""
    return pair.kind == TRANSLATION
