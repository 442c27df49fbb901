"""The state of a mixture among the arrays of a checkpoint."""

from collections.abc import Mapping

import numpy as np

from keras_mtl.schedules.adaptive_state import AdaptiveState, score_arrays, with_prefix


def checkpoint_state(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Returns the state of a mixture from the arrays of a checkpoint, for `Mixture.restore`.

    Args:
        arrays: all arrays; those of the state begin with `prefix`. Older versions saved the scores
            without the prefix.
        prefix: beginning of the names, such as `mixture/`.
    """
    state = with_prefix(arrays, prefix)
    return state if AdaptiveState.has_scores(state) else {**score_arrays(arrays), **state}
