"""A search in a graph that runs once for each decoder of a batch of mixed tasks."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_mtl.decoding.graph_search.graph_options import sentence_max_lengths
from keras_mtl.decoding.model_search import Batch
from keras_mtl.models.adapter_routes import decoder_of


class DecoderSearch(tf.Module):
    """Base class of searches with a Keras model in a SavedModel.

    Rows with the same decoder are searched together. Rows without tokens are omitted.

    Args:
        model: a trained model.
        pad_id: id of the padding after a hypothesis.
    """

    def __init__(self, model: Any, pad_id: int) -> None:
        super().__init__(name="keras_mtl_search")
        self._pad_id = pad_id
        self._decoder_of = functools.partial(decoder_of, model.adapter_sets)
        # Only the variables: a Keras model would be saved with all its methods.
        self._model_variables = [variable.value for variable in model.variables]

    def _empty(self, lengths: tf.Tensor, options: Any) -> dict[str, tf.Tensor]:
        """Returns the result of empty texts. The other rows are overwritten."""
        shape = [tf.size(lengths), options.num_hypotheses]
        first = tf.broadcast_to(tf.equal(tf.range(options.num_hypotheses), 0), shape)
        scores = tf.where(first, 0.0, -float("inf"))
        return {
            "ids": tf.fill([*shape, options.max_length], self._pad_id),
            "lengths": tf.zeros(shape, tf.int32),
            "scores": scores,
            "log_probabilities": scores,
            "ended": first,
            "token_scores": tf.zeros([*shape, options.max_length + 1]),
        }

    def _by_decoder(
        self,
        source: tf.Tensor,
        decoder: tf.Tensor,
        lengths: tf.Tensor,
        found: dict[str, tf.Tensor],
        options: Any,
        search: Callable[[Batch], dict[str, tf.Tensor]],
    ) -> dict[str, tf.Tensor]:
        """Searches the rows of each decoder; `search` returns the fields of `found`."""
        limits = sentence_max_lengths(options, lengths)
        own = self._decoder_of(decoder)
        used, _ = tf.unique(tf.boolean_mask(own, lengths > 0))

        def body(i: tf.Tensor, found: dict[str, tf.Tensor]) -> tuple[Any, ...]:
            rows = tf.where(tf.equal(own, used[i]) & (lengths > 0))  # [rows, 1]
            # In a served graph the arguments of a loop body have no static rank. Without it,
            # TensorFlow's optimizer prints a warning for each softmax, whose cost it cannot
            # estimate.
            indices = tf.ensure_shape(rows, [None, 1])[:, 0]
            batch = Batch(
                tf.ensure_shape(tf.gather_nd(source, rows), [None, None]),
                tf.ensure_shape(tf.gather_nd(decoder, rows), [None]),
                tf.ensure_shape(tf.gather_nd(limits, rows), [None]),
                indices=indices,
            )
            now = search(batch)
            return i + 1, {
                name: tf.tensor_scatter_nd_update(before, rows, now[name])
                for name, before in found.items()
            }

        _, found = tf.while_loop(lambda i, _: i < tf.size(used), body, (tf.constant(0), found))
        return found
