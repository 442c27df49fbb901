"""Adam for the numbers that a balancing method learns, one for each task."""

import numpy as np
import tensorflow as tf

from keras_mtl.balancing.base import State

# The defaults of algorithm 1 of arXiv 1412.6980.
_BETA_1 = 0.9
_BETA_2 = 0.999
_EPSILON = 1e-8


def init(num_tasks: int) -> dict[str, np.ndarray]:
    """Returns the moments and the number of updates of each task, float32 [N]."""
    return {name: np.zeros(num_tasks, np.float32) for name in ("momentum", "velocity", "updates")}


def step(
    state: State, gradient: tf.Tensor, active: tf.Tensor, learning_rate: float
) -> tuple[tf.Tensor, State]:
    """Computes one update; the moments of inactive tasks do not change.

    Args:
        state: a state with the entries of `init`; others are ignored.
        gradient: float32 [N], gradient of the objective with respect to the learned numbers.
        active: bool [N], the tasks to update.
        learning_rate: step size, > 0.

    Returns:
        The change of the learned numbers, float32 [N], and the new entries of the state.
    """
    gradient = tf.where(active, gradient, 0.0)
    updates = state["updates"] + 1.0
    momentum = _BETA_1 * state["momentum"] + (1 - _BETA_1) * gradient
    velocity = _BETA_2 * state["velocity"] + (1 - _BETA_2) * tf.square(gradient)
    corrected = momentum / (1 - tf.pow(_BETA_1, updates))
    spread = tf.sqrt(velocity / (1 - tf.pow(_BETA_2, updates)))
    change = -learning_rate * corrected / (spread + _EPSILON)
    new = {"momentum": momentum, "velocity": velocity, "updates": updates}
    kept = {name: tf.where(active, value, state[name]) for name, value in new.items()}
    return tf.where(active, change, 0.0), kept
