"""Computes log-probabilities of given translations with a Keras model."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.decoding.scoring import ScoreIds

# Lengths are rounded up to powers of two, at least this, so that few shapes are traced.
_MIN_LENGTH = 16


def model_scores(model: Any, batch_size: int = 64) -> ScoreIds:
    """Returns a function that scores with a `keras_mtl.models.Transformer`.

    Args:
        model: the model; each call uses its current weights.
        batch_size: sentences per batch, >= 1.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def step(source: tf.Tensor, target: tf.Tensor, decoder: tf.Tensor) -> tf.Tensor:
        inputs = {"source": source, "target": target, "decoder": decoder}
        logits = tf.cast(model(inputs, training=False), tf.float32)
        chosen = tf.gather(tf.nn.log_softmax(logits), target, batch_dims=2)
        return chosen

    def score(sources: list[list[int]], targets: list[list[int]], decoder: int) -> list[np.ndarray]:
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]) + len(targets[i]))
        scores: list[np.ndarray] = [np.zeros(0, np.float32) for _ in sources]
        for begin in range(0, len(order), batch_size):
            rows = order[begin : begin + batch_size]
            batch = [_pad([side[i] for i in rows], model.max_length) for side in (sources, targets)]
            found = step(*map(tf.constant, batch), tf.fill([len(rows)], decoder)).numpy()
            for i, values in zip(rows, found, strict=True):
                scores[i] = values[: len(targets[i])]
        return scores

    return score


def _pad(rows: list[list[int]], longest: int) -> np.ndarray:
    width = max(_MIN_LENGTH, 1 << (max(map(len, rows)) - 1).bit_length())
    batch = np.zeros([len(rows), min(width, longest)], np.int32)
    for place, ids in zip(batch, rows, strict=True):
        place[: len(ids)] = ids
    return batch
