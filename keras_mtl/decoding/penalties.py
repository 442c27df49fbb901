"""Length penalties of beam search, as tables.

A table is made once with float64 arithmetic and rounded to float32, so that every implementation of
the search divides by exactly the same number, and so that rounding cannot break its monotony.
"""

import numpy as np

from keras_mtl.decoding.options import BeamOptions


def length_penalties(options: BeamOptions, max_length: int) -> np.ndarray:
    """Returns what the log-probability of a hypothesis of each length is divided by.

    Args:
        options: `length_penalty`, `alpha` and `length_penalty_constant` are read.
        max_length: longest hypothesis in tokens, end of sentence counted; >= 0.

    Returns:
        float32[max_length + 1], never falling from entry 1 on; entry 0 is 1.

    Reference: `gnmt` is equation 14 of arXiv 1609.08144.
    """
    lengths = np.arange(max_length + 1, dtype=np.float64)
    constant = options.length_penalty_constant
    base = {
        "none": np.ones_like(lengths),
        "power": lengths,
        "gnmt": (5.0 + lengths) / 6.0,
        "lingvo": (5.0 + lengths) / 5.0,
        "constant": (constant + lengths) / (constant + 1.0),
    }[options.length_penalty]
    penalties = base**options.alpha
    penalties[0] = 1.0  # The empty hypothesis of an empty sentence has score 0 whatever divides it.
    return penalties.astype(np.float32)
