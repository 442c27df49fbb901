"""Beam search with a translation model, from source ids to hypotheses, as one TensorFlow function.

Text decoding and the exported model call the same functions, so their translations are equal.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.beam_search import BeamResult, beam_search
from keras_mtl.decoding.graph_search.graph_options import GraphOptions
from keras_mtl.decoding.graph_search.state import may_differ
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.suppressed import model_options, suppressed_ids

# A model's caches have a static size. Each batch uses the smallest sufficient one of a few sizes.
# Doubling the sizes limits the number of traced programs and wastes at most half of a cache.
_SMALLEST_STEPS = 16


def step_sizes(max_length: int) -> list[int]:
    """Returns the numbers of steps for which programs are traced: 16, 32, 64, … `max_length`."""
    sizes = []
    size = _SMALLEST_STEPS
    while size < max_length:
        sizes.append(size)
        size *= 2
    return [*sizes, max_length]


class Batch(NamedTuple):
    """A batch of sentences to translate, as arrays or tensors.

    Attributes:
        source: int32[batch, time]: tag, tokens, end of sentence, padding.
        decoder: int32[batch], `TranslationTask.route` of the tasks, which have one decoder.
        max_lengths: int32[batch], maximum of target tokens per sentence.
        prefix: int32[batch, P], forced target tokens.
        prefix_lengths: int32[batch], number of prefix tokens of each sentence.
        bias: int32[batch, B], target tokens for biased decoding.
        bias_lengths: int32[batch], number of bias tokens of each sentence.
        indices: int64[batch], numbers of the sentences, which determine their samples; default 0,
            1, …
    """

    source: Any
    decoder: Any
    max_lengths: Any
    prefix: Any = None
    prefix_lengths: Any = None
    bias: Any = None
    bias_lengths: Any = None
    indices: Any = None


class ModelSearch:
    """Translates the ids of a batch of sentences.

    Args:
        model: a model with `encode`, `start`, `step`, `reorder` and `max_length` of
            `keras_mtl.models.Transformer`.
        vocabulary: the model's vocabulary.
        options: beam-search options. In addition to `options.suppress`, tokens that cannot be in
            text are suppressed.
        jit_compile: whether to compile with XLA. This is for accelerators: on a CPU it is slower
            than a graph, and every new shape is compiled.

    Raises:
        InputError: the model or the vocabulary does not support the options.
    """

    def __init__(
        self, model: Any, vocabulary: Vocabulary, options: BeamOptions, jit_compile: bool = False
    ) -> None:
        suppressed = suppressed_ids(vocabulary)
        self.options = model_options(options, suppressed, vocabulary, model.max_length)
        self._model = model
        self._vocabulary = vocabulary
        self._function = tf.function(
            self.search,
            autograph=False,
            jit_compile=jit_compile or None,
            reduce_retracing=not jit_compile,
        )

    def __call__(self, batch: Batch, alignments: bool = False) -> BeamResult:
        """Searches. The program for a number of steps is traced on first use.

        Args:
            batch: the sentences, as NumPy arrays.
            alignments: whether to return alignments: the attention of the decoder's last layer,
                averaged over heads. They require a separate program.

        Returns:
            A `BeamResult` of NumPy arrays.
        """
        highest = int(batch.max_lengths.max())
        steps = next(size for size in step_sizes(self.options.max_length) if size >= highest)
        tensors = Batch(
            *(
                None
                if array is None
                else tf.constant(array, tf.int64 if name == "indices" else tf.int32)
                for name, array in batch._asdict().items()
            )
        )
        result = self._function(tensors, steps, alignments)
        return BeamResult(*(None if tensor is None else tensor.numpy() for tensor in result))

    def search(
        self,
        batch: Batch,
        max_steps: int | tf.Tensor,
        alignments: bool = False,
        options: BeamOptions | GraphOptions | None = None,
    ) -> BeamResult:
        """Builds the graph of a search.

        Args:
            batch: the sentences, as tensors.
            max_steps: maximum of steps; a tensor only with `GraphOptions`.
            alignments: see `__call__`.
            options: default the options of this object.
        """
        options = self.options if options is None else options
        source, vocabulary = batch.source, self._vocabulary
        attends = alignments or may_differ(options.coverage_penalty, 0)
        needs_route = getattr(self._model, "needs_route", False)
        known = {"decoder": batch.decoder} if needs_route else {}
        memory = self._model.encode(source, training=False, **known)
        state = self._model.start(memory, batch.decoder, options.beam_size, max_steps)
        used = tf.cast(tf.not_equal(source, vocabulary.pad_id), tf.int32)
        return beam_search(
            self._step_with_attention if attends else self._model.step,
            state,
            self._model.reorder,
            source.shape[0] or tf.shape(source)[0],
            vocabulary.size,
            options,
            start_id=vocabulary.bos_id,
            eos_id=vocabulary.eos_id,
            pad_id=vocabulary.pad_id,
            max_lengths=batch.max_lengths,
            max_steps=max_steps,
            prefix=batch.prefix,
            prefix_lengths=batch.prefix_lengths,
            bias=batch.bias,
            bias_lengths=batch.bias_lengths,
            sentence_indices=batch.indices,
            source_width=(source.shape[1] or tf.shape(source)[1]) if attends else None,
            source_lengths=tf.reduce_sum(used, 1),
            alignments=alignments,
        )

    def _step_with_attention(self, ids: tf.Tensor, step: tf.Tensor, state: Any) -> Any:
        weights: list[tf.Tensor] = []
        logits, after = self._model.step(ids, step, state, weights)
        return (logits, weights[0]), after
