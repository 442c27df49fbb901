"""Sums over the batches of an update, in variables of each replica."""

from typing import Any

import tensorflow as tf


class Accumulator:
    """Adds up tensors of any structure between programs of one update.

    Programs of different shapes cannot hand each other tensors: on a TPU these would pass through
    the host. Each replica has its own sums.

    Args:
        strategy: the strategy.
        specs: structure of `tf.TensorSpec` of static shapes.
    """

    def __init__(self, strategy: tf.distribute.Strategy, specs: Any) -> None:
        with strategy.scope():
            self._variables = tf.nest.map_structure(_zeros, specs)

    def add(self, values: Any) -> None:
        """Adds tensors, in a replica's context.

        Args:
            values: of the structure of the specs.
        """
        tf.nest.map_structure(
            lambda variable, value: variable.assign_add(value), self._variables, values
        )

    def take(self) -> Any:
        """Returns the replica's sums and sets them to zero."""
        sums = tf.nest.map_structure(tf.identity, self._variables)
        tf.nest.map_structure(
            lambda variable: variable.assign(tf.zeros_like(variable)), self._variables
        )
        return sums


def _zeros(spec: tf.TensorSpec) -> tf.Variable:
    return tf.Variable(
        tf.zeros(spec.shape, spec.dtype),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
        name="accumulated",
    )
