"""Length penalties of beam search as tables.

A table is computed in float64 and rounded to float32. So every implementation of the search divides
by exactly the same numbers, and rounding cannot break their monotonicity.
"""

import numpy as np

from keras_mtl.decoding.options import BeamOptions


def length_penalties(options: BeamOptions, max_length: int) -> np.ndarray:
    """Returns the divisor of the log-probability for each hypothesis length.

    Args:
        options: provides `length_penalty`, `alpha` and `length_penalty_constant`.
        max_length: length of the longest hypothesis in tokens, including the end of sentence, >= 0.

    Returns:
        float32[max_length + 1], non-decreasing from entry 1 on; entry 0 is 1.

    Reference:
        Wu et al. 2016, arXiv:1609.08144, equation 14 (`gnmt`).
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
    penalties[0] = 1.0  # Only the empty hypothesis has length 0, and its score is 0.
    return penalties.astype(np.float32)
