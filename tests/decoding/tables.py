"""A model that is a table: what it gives depends on a hash of all tokens so far.

The hash is the model's state, so a search that mixes up its slots reads the wrong rows.
"""

import numpy as np
import tensorflow as tf

ROWS = 7


def hash_of(tokens):
    value = 0
    for token in tokens:
        value = (3 * value + token + 1) % ROWS
    return value


class TableModel:
    """``table``: float32[batch, steps, ROWS, V]."""

    def __init__(self, table):
        self.table = table

    def sentence(self, index):
        """The same model for the reference: tokens -> float32[V]."""
        return lambda tokens: self.table[index, len(tokens), hash_of(tokens)]


def step(ids, index, state):
    hashes = tf.where(index > 0, (3 * state["hash"] + ids + 1) % ROWS, state["hash"])
    rows = tf.gather(state["table"], index, axis=1)  # [batch, ROWS, V]
    outputs = tf.gather(rows, hashes, batch_dims=1)
    return outputs, {"hash": hashes, "table": state["table"]}


def reorder(state, beam_index):
    hashes = tf.gather(state["hash"], beam_index, batch_dims=1)
    return {"hash": hashes, "table": state["table"]}


def start(table, beams):
    return {"hash": tf.zeros([table.shape[0], beams], tf.int32), "table": table}


def random_table(seed, kind, batch, steps, vocabulary_size):
    """Tables of log-probabilities (not normalized, <= 0) whose sums are exact in float32.

    Kinds: ``ties`` (eighths, few values), ``zeros`` (ties, and a third -inf), ``near`` (differences
    of one unit in the last place), ``random`` (float32 at random).
    """
    generator = np.random.default_rng(seed)
    shape = (batch, steps, ROWS, vocabulary_size)
    if kind == "random":
        return -generator.exponential(2.0, shape).astype(np.float32)
    table = -generator.integers(0, 6, shape).astype(np.float32) / 8
    if kind == "zeros":
        table[generator.random(shape) < 0.35] = -np.inf
    if kind == "near":
        up = generator.integers(0, 2, shape).astype(bool)
        table = table - np.float32(
            1 / 8
        )  # The neighbor of 0 is a denormal, which TensorFlow flushes to 0.
        table = np.where(up, np.nextafter(table, np.float32(-9)), table).astype(np.float32)
    return table
