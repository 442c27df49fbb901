"""The text of `model_analysis.txt`: each variable of a model with its shape and its size."""

import math
from collections.abc import Sequence
from typing import Any

from keras_mtl.models.variables import layer_name, variables_by_name


def model_analysis(model: Any) -> str:
    """Returns a table of the variables of a model, with the totals of its parts.

    Args:
        model: a built `keras.Model` whose variables are frozen already.

    Example output:
        ```
        variable                              shape      dtype    parameters
        embedding/embeddings                  3000 x 128  float32     384,000
        encoder/layer_0/attention_norm/gamma  128         float32         128  frozen
        ...

        part             parameters   share
        embedding           384,000   48.1%
        ...
        all                 798,336  100.0%
        trained             798,208  100.0%
        ```
    """
    variables = variables_by_name(model)
    rows = [("variable", "shape", "dtype", "parameters", "")]
    parts: dict[str, int] = {}
    trained = 0
    for name, variable in variables.items():
        size = math.prod(variable.shape)
        shape = " x ".join(map(str, variable.shape)) or "1"
        rows.append(
            (name, shape, variable.dtype, f"{size:,}", "" if variable.trainable else "frozen")
        )
        part = layer_name(name) or name
        parts[part] = parts.get(part, 0) + size
        trained += size * bool(variable.trainable)
    total = sum(parts.values())
    totals = [("part", "parameters", "share")]
    for part, size in {**parts, "all": total, "trained": trained}.items():
        totals.append((part, f"{size:,}", f"{size / total:.1%}"))
    return f"{_aligned(rows, '<<<><')}\n{_aligned(totals, '<>>')}"


def _aligned(rows: Sequence[Sequence[str]], sides: str) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    formats = [f"{side}{width}" for side, width in zip(sides, widths, strict=True)]
    lines = ["  ".join(map(format, row, formats)) for row in rows]
    return "".join(f"{line.rstrip()}\n" for line in lines)
