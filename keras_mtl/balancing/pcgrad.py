"""PCGrad: removes from each gradient the components that conflict with other tasks."""

import tensorflow as tf

from keras_mtl.balancing.base import GRADIENTS, Balancer, Seen, State
from keras_mtl.balancing.registry import register


@register
class PCGrad(Balancer):
    """Σ_i h_i', where h_i' is h_i minus its projection on each h_j with h_i' · h_j < 0.

    h_i = q_i g_i is the contribution of task i to the plain step. For each i the other tasks are
    visited in a random order, and their h_j are the original ones. Without conflicts the result is
    the plain step.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: seed of the random orders.

    Reference: Yu et al. 2020, arXiv 2001.06782, algorithm 1.
    """

    name = "pcgrad"
    uses = GRADIENTS
    shared_only = True

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the sum over i of the coefficients of h_j in h_i', float32 [N]."""
        del state
        gram = seen.contributions
        squares = tf.linalg.diag_part(gram)
        orders = random_orders(self, seen.step)
        rows = tf.range(self.num_tasks)
        # Row i holds the coefficients of the h_j in h_i'.
        coefficients = tf.eye(self.num_tasks)
        for turn in range(self.num_tasks):
            other = orders[:, turn]
            dots = tf.reduce_sum(coefficients * tf.gather(gram, other), axis=1)
            conflict = (dots < 0) & (other != rows)
            share = tf.math.divide_no_nan(dots, tf.gather(squares, other))
            share = tf.where(conflict, share, 0.0)
            coefficients -= share[:, None] * tf.one_hot(other, self.num_tasks)
        return tf.reduce_sum(tf.where(seen.present[:, None], coefficients, 0.0), axis=0)


def random_orders(balancer: Balancer, step: tf.Tensor) -> tf.Tensor:
    """Returns a random order of the tasks for each task, int32 [N, N]."""
    count = balancer.num_tasks
    return sorted_places(balancer.uniform(step, [count, count]))


def sorted_places(keys: tf.Tensor) -> tf.Tensor:
    """Sorts each row; equal keys keep their order.

    It compares all pairs, because `tf.argsort` sets the size of a dimension at run time under XLA,
    and a program for TPUs needs static shapes.

    Args:
        keys: float32 [rows, N].

    Returns:
        int32 [rows, N], the places of the keys, the smallest key's first.
    """
    places = tf.range(keys.shape[1])
    key, other = keys[:, :, None], keys[:, None, :]
    before = (other < key) | ((other == key) & (places < places[:, None]))
    ranks = tf.reduce_sum(tf.cast(before, tf.int32), axis=2)
    return tf.reduce_sum(tf.where(ranks[:, None, :] == places[:, None], places, 0), axis=2)
