"""Export of the portable SavedModel: text and task in, translations out.

It contains the tokenizer, the model and the beam search, and uses only operations of TensorFlow and
tensorflow-text. Any process that imports these two packages can serve it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.graph_search.graph_options import parse_options
from keras_mtl.decoding.loading import load_model
from keras_mtl.decoding.model_search import Batch, ModelSearch, step_sizes
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.export.decoder_search import DecoderSearch
from keras_mtl.export.output import check_free
from keras_mtl.export.translation_module import (
    TranslationModule,
    save_translation_module,
)


class GraphSearch(DecoderSearch):
    """The search of `Translator` in a graph.

    Args:
        model: a trained `keras_mtl.models.Transformer`.
        vocabulary: the vocabulary of the model.
        options: beam search options.
    """

    def __init__(self, model: Any, vocabulary: Vocabulary, options: BeamOptions) -> None:
        super().__init__(model, vocabulary.pad_id)
        self._model = ModelSearch(model, vocabulary, options)
        self._options = self._model.options
        self._vocabulary_size = vocabulary.size
        self._function = tf.function(
            self._search,
            input_signature=[
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None], tf.int32),
            ],
            autograph=False,
        )

    @property
    def options(self) -> BeamOptions:
        """The options of the search, including all suppressed tokens."""
        return self._options

    def __call__(
        self, source: tf.Tensor, decoder: tf.Tensor, lengths: tf.Tensor, alignments: bool
    ) -> dict[str, tf.Tensor]:
        """See `TranslationModule`. T is `max_length`, and there are no alignments."""
        assert not alignments
        # All signatures share one traced function, because the search is most of the file.
        return self._function(source, decoder, lengths)

    def with_options(
        self, source: tf.Tensor, decoder: tf.Tensor, lengths: tf.Tensor, text: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Searches with options that the caller gives; see `TranslationModule`.

        The number of steps is a tensor, so that one program serves all lengths. There are
        alignments.

        Args:
            source: as for `__call__`.
            decoder: as for `__call__`.
            lengths: as for `__call__`.
            text: string[], the options; see `parse_options`.
        """
        options = parse_options(text, self._options, self._vocabulary_size)
        found = self._empty(lengths, options)
        width = tf.shape(source)[1]
        shape = [tf.size(lengths), options.num_hypotheses, options.max_length + 1, width]
        found["alignments"] = tf.zeros(shape)

        def search(batch: Batch) -> dict[str, tf.Tensor]:
            steps = tf.reduce_max(batch.max_lengths)
            found = self._translated(batch, steps, options, alignments=True)
            return _checked(found, batch.indices)

        return self._by_decoder(source, decoder, lengths, found, options, search)

    def _search(
        self, source: tf.Tensor, decoder: tf.Tensor, lengths: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        found = self._empty(lengths, self._options)
        return self._by_decoder(
            source, decoder, lengths, found, self._options, self._smallest_program
        )

    def _smallest_program(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Searches with the smallest sufficient number of steps."""
        sizes = step_sizes(self._options.max_length)
        size = tf.searchsorted(sizes, [tf.reduce_max(batch.max_lengths)])[0]
        branches = [
            lambda steps=steps: self._translated(batch, steps, self._options) for steps in sizes
        ]
        return _checked(tf.switch_case(size, branches), batch.indices)

    def _translated(
        self, batch: Batch, steps: Any, options: Any, alignments: bool = False
    ) -> dict[str, tf.Tensor]:
        result = self._model.search(batch, steps, alignments, options)
        rest = options.max_length - steps
        after = [[0, 0], [0, 0], [0, rest + 1]]
        found = {
            "ids": tf.pad(result.ids, [[0, 0], [0, 0], [0, rest]], constant_values=self._pad_id),
            "lengths": result.lengths,
            "scores": result.scores,
            "log_probabilities": result.log_probabilities,
            "ended": result.ended,
            "token_scores": tf.pad(result.token_scores, after),
            "nan_steps": result.nan_steps,
        }
        if alignments:
            found["alignments"] = tf.pad(result.alignments, [*after, [0, 0]])
        return found


def _checked(found: dict[str, tf.Tensor], rows: tf.Tensor) -> dict[str, tf.Tensor]:
    """Removes `nan_steps`. Fails in the graph if an output is NaN; the message names the row."""
    nan_steps = found.pop("nan_steps")
    where = tf.cast(tf.argmax(nan_steps), tf.int32)
    message = tf.strings.format(
        "sentence {} of the batch: the model's output is not a number at decoding step {}",
        (rows[where], nan_steps[where]),
    )
    fine = tf.debugging.Assert(tf.reduce_all(nan_steps < 0), [message])
    with tf.control_dependencies([fine]):
        return {**found, "ids": tf.identity(found["ids"])}


def export_saved_model(
    model: Any,
    vocabulary: Vocabulary,
    tasks: Sequence[TranslationTask],
    options: BeamOptions,
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> Path:
    """Writes the SavedModel of a model in memory.

    It is written under a temporary name and then renamed, so the directory is complete or absent.

    Args:
        model: a trained `keras_mtl.models.Transformer`.
        vocabulary: the vocabulary of the model.
        tasks: the tasks of the model.
        options: beam search options of the exported model.
        output: the directory to create.
        overwrite: whether to replace an existing SavedModel.

    Returns:
        The directory.

    Raises:
        ExportError: the directory exists or cannot be written.
        InputError: the model does not support the options.
    """
    search = GraphSearch(model, vocabulary, options)
    module = TranslationModule(search, vocabulary, tasks, search.options, model.max_length)
    return save_translation_module(module, output, overwrite)


def export_model_dir(
    model_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    options: dict[str, Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes the SavedModel of a model directory.

    Args:
        model_dir: a directory written by `keras-mtl train`.
        output: the directory to create.
        options: beam search options that replace those in `task.decoding` of `params.yaml`.
        checkpoint: see `keras_mtl.decoding.loading.load_model`.
        overwrite: whether to replace an existing SavedModel.

    Returns:
        The directory.

    Raises:
        CheckpointError: the model directory cannot be used.
        ExportError: the directory exists or cannot be written.
        InputError: an option is out of range.
    """
    check_free(Path(output), overwrite)
    loaded = load_model(model_dir, checkpoint)
    beam_options = loaded.options.replace(**(options or {}))
    return export_saved_model(
        loaded.model,
        loaded.vocabulary,
        loaded.tasks.exported(),
        beam_options,
        output,
        overwrite=overwrite,
    )
