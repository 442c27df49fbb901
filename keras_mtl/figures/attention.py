"""Draws the attention of a translation: to which tokens of the source each token attends."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.figures import charts

# In inches, for each token and around all of them.
_CELL, _EDGE = 0.22, 0.9
_DPI = 80
# SentencePiece's mark of a space, which few fonts have.
_SPACE = "\u2581"


def draw_attention(axes: Any, sample: Mapping[str, Any]) -> None:
    """Draws a sample as a heat map with a row for each token of the translation.

    Args:
        axes: the axes to draw on.
        sample: has `tokens`, `source_tokens` and `alignment`; see `keras_mtl.evaluation.samples`.
    """
    weights = np.asarray(sample["alignment"], np.float64)
    rows, columns = _shown(sample["tokens"]), _shown(sample["source_tokens"])
    # A search that ended at its maximum length has no row for the end of the sentence.
    weights = weights[: len(rows), : len(columns)]
    axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="equal")
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(weights.shape[0]), rows[: weights.shape[0]])
    axes.tick_params(length=0, labelsize=8, labelcolor=charts.INK)
    axes.xaxis.tick_top()
    for spine in axes.spines.values():
        spine.set_visible(False)


def attention_figure(sample: Mapping[str, Any]) -> Any:
    """Returns a figure of a sample, whose size grows with the numbers of tokens."""
    width = _EDGE + _CELL * len(sample["source_tokens"])
    height = _EDGE + _CELL * len(sample["tokens"])
    figure = charts.new_figure(max(2.0, width), max(1.6, height))
    draw_attention(figure.add_subplot(), sample)
    return figure


def to_png(sample: Mapping[str, Any]) -> tuple[bytes, int, int]:
    """Returns a picture of a sample as PNG, with its height and its width in pixels."""
    figure = attention_figure(sample)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    width, height = (int(inches * _DPI) for inches in figure.get_size_inches())
    return content.getvalue(), height, width


def _shown(tokens: Sequence[str]) -> list[str]:
    """Returns tokens as labels; matplotlib takes `$` for the beginning of a formula."""
    return [token.replace(_SPACE, "_").replace("$", r"\$") for token in tokens]
