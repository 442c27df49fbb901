"""The search of C++ operations with a Keras model, for models that the engine does not run."""

import functools
from typing import Any

import tensorflow as tf

from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.model_search import Batch
from keras_mtl.decoding.native_beam_search import LiveRows
from keras_mtl.decoding.op_beam_search import op_beam_search
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.export.decoder_search import DecoderSearch


class OperationSearch(DecoderSearch):
    """A search in a graph: TensorFlow computes the model, and `KerasMtl>BeamSearch` searches.

    Args:
        model: a trained model; see `keras_mtl.decoding.model_search.ModelSearch`.
        vocabulary: the vocabulary of the model.
        options: beam search options, including all suppressed tokens.
    """

    def __init__(self, model: Any, vocabulary: Vocabulary, options: BeamOptions) -> None:
        super().__init__(model, vocabulary.pad_id)
        self._options = options
        # Not an attribute of its own: a Keras model would be saved with all its methods.
        self._translated = functools.partial(_translated, model, vocabulary, options)
        make = functools.partial(
            tf.function,
            input_signature=[
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None], tf.int32),
            ],
            autograph=False,
        )
        self._plain = make(functools.partial(self._search, alignments=False))
        self._with_alignments = make(functools.partial(self._search, alignments=True))

    def __call__(
        self, source: tf.Tensor, decoder: tf.Tensor, lengths: tf.Tensor, alignments: bool
    ) -> dict[str, tf.Tensor]:
        """See `TranslationModule`. T is `max_length`."""
        function = self._with_alignments if alignments else self._plain
        return function(source, decoder, lengths)

    def _search(
        self, source: tf.Tensor, decoder: tf.Tensor, lengths: tf.Tensor, alignments: bool
    ) -> dict[str, tf.Tensor]:
        options = self._options
        found = self._empty(lengths, options)
        if alignments:
            shape = [tf.size(lengths), options.num_hypotheses, options.max_length + 1]
            found["alignments"] = tf.zeros([*shape, tf.shape(source)[1]])
        search = functools.partial(self._translated, alignments=alignments)
        return self._by_decoder(source, decoder, lengths, found, options, search)


def _translated(
    model: Any, vocabulary: Vocabulary, options: BeamOptions, batch: Batch, alignments: bool
) -> dict[str, tf.Tensor]:
    """Searches sentences of one decoder."""
    attends = alignments or options.coverage_penalty != 0
    used = tf.cast(tf.not_equal(batch.source, vocabulary.pad_id), tf.int32)
    known = {"decoder": batch.decoder} if model.needs_route else {}
    memory = model.encode(batch.source, training=False, **known)
    # Each row of the operation is a sentence with one beam for the model.
    state = model.start(memory, batch.decoder, 1, options.max_length)
    shared = {"weights": state.pop("weights")} if "weights" in state else {}

    def step(rows: LiveRows, state: Any) -> Any:
        weights: list[tf.Tensor] | None = [] if attends else None
        # All rows have the same position: sentences begin together.
        index = tf.reduce_max(rows.position)
        logits, after = model.step(rows.token[:, None], index, {**state, **shared}, weights)
        rest = {name: value for name, value in after.items() if name not in shared}
        return ((logits[:, 0], weights[0][:, 0]) if weights else logits[:, 0]), rest

    result = op_beam_search(
        step,
        state,
        tf.shape(batch.source)[0],
        vocabulary.size,
        options,
        start_id=vocabulary.bos_id,
        eos_id=vocabulary.eos_id,
        pad_id=vocabulary.pad_id,
        max_lengths=batch.max_lengths,
        source_lengths=tf.reduce_sum(used, 1) if attends else None,
        sentence_indices=batch.indices,
        alignments=alignments,
    )
    found = result._asdict()
    del found["counts"]
    if not alignments:
        del found["alignments"]
        return found
    missing = tf.shape(batch.source)[1] - tf.shape(found["alignments"])[3]
    found["alignments"] = tf.pad(found["alignments"], [[0, 0], [0, 0], [0, 0], [0, missing]])
    return found
