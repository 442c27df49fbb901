"""Export of a SavedModel with C++ operations: text and task in, translations out.

Its signatures are those of the portable SavedModel. A process that serves it first calls
`keras_mtl.engine.load_ops()`. The model file of the engine is an asset of the SavedModel. A model
that the engine does not run is computed by TensorFlow, and only the search is in C++.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_mtl.configuration.sublayers import only_tensorflow
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.loading import load_model
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.suppressed import model_options, suppressed_ids
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.engine import load_ops
from keras_mtl.engine.arguments import option_lines
from keras_mtl.export.engine_file import export_engine_file
from keras_mtl.export.operation_search import OperationSearch
from keras_mtl.export.output import check_free, check_weight_type
from keras_mtl.export.translation_module import (
    TranslationModule,
    save_translation_module,
)


class EngineSearch(tf.Module):
    """The search of the engine, as the operation `KerasMtl>Translate`.

    Args:
        engine_file: the model file. A copy of it is saved with the module.
        options: beam search options, including all suppressed tokens.
        pad_id: id of the padding after a hypothesis.
    """

    def __init__(
        self, engine_file: str | os.PathLike[str], options: BeamOptions, pad_id: int
    ) -> None:
        super().__init__(name="keras_mtl_engine")
        self._operation = load_ops().keras_mtl_translate
        self._file = tf.saved_model.Asset(os.fspath(engine_file))
        self._options = options
        self._pad_id = pad_id

    def __call__(
        self, source: tf.Tensor, decoder: tf.Tensor, lengths: tf.Tensor, alignments: bool
    ) -> dict[str, tf.Tensor]:
        """See `TranslationModule`. T is the length of the longest translation in the batch."""
        found = self._operation(
            path=self._file.asset_path,
            source=source,
            lengths=lengths + 2,  # The tag and the end of sentence.
            decoders=decoder,
            indices=tf.range(tf.size(lengths, tf.int64)),
            options=option_lines(self._options),
            num_hypotheses=self._options.num_hypotheses,
            pad_id=self._pad_id,
            with_alignments=alignments,
        )
        outputs = {
            "ids": found.ids,
            "lengths": found.target_lengths,
            "scores": found.scores,
            "log_probabilities": found.log_probabilities,
            "ended": found.ended,
            "token_scores": found.token_scores,
        }
        return {**outputs, "alignments": found.alignments} if alignments else outputs


def export_native_saved_model(
    model: Any,
    vocabulary: Vocabulary,
    tasks: Sequence[TranslationTask],
    options: BeamOptions,
    output: str | os.PathLike[str],
    *,
    weight_type: str = "float32",
    overwrite: bool = False,
) -> Path:
    """Writes the SavedModel of a model in memory; see `export_saved_model`.

    Args:
        model: a trained `keras_mtl.models.Transformer`.
        vocabulary: the vocabulary of the model.
        tasks: the tasks of the model.
        options: beam search options of the exported model, including those that only the engine
            has.
        output: the directory to create.
        weight_type: `float32` or `int8`, as in `export_engine_file`; a model that the engine does
            not run is float32.
        overwrite: whether to replace an existing SavedModel.

    Returns:
        The directory.

    Raises:
        ExportError: the directory exists, the model does not have the type of weights, or the
            directory or the weights cannot be written.
        InputError: the model does not support the options.
        NativeError: the TensorFlow operations cannot be loaded.
    """
    check_free(Path(output), overwrite)
    options = model_options(options, suppressed_ids(vocabulary), vocabulary, model.max_length)
    if reason := only_tensorflow(model):
        check_weight_type(reason, weight_type)
        load_ops()
        search = OperationSearch(model, vocabulary, options)
        return _save(search, model, vocabulary, tasks, options, output, overwrite)
    directory = tempfile.mkdtemp(prefix="keras_mtl-")
    try:
        file = export_engine_file(
            model, vocabulary, tasks, Path(directory) / "model.kmtl", weight_type=weight_type
        )
        search = EngineSearch(file, options, vocabulary.pad_id)
        return _save(search, model, vocabulary, tasks, options, output, overwrite)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _save(
    search: tf.Module,
    model: Any,
    vocabulary: Vocabulary,
    tasks: Sequence[TranslationTask],
    options: BeamOptions,
    output: str | os.PathLike[str],
    overwrite: bool,
) -> Path:
    arguments = search, vocabulary, tasks, options, model.max_length
    module = TranslationModule(*arguments, alignments=True)
    return save_translation_module(module, output, overwrite)


def export_native_model_dir(
    model_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    options: dict[str, Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    weight_type: str = "float32",
    overwrite: bool = False,
) -> Path:
    """Writes the SavedModel of a model directory. The arguments are those of `export_model_dir`.

    Raises:
        CheckpointError: the model directory cannot be used.
        ExportError: see `export_native_saved_model`.
        InputError: see `export_native_saved_model`.
        NativeError: see `export_native_saved_model`.
    """
    check_free(Path(output), overwrite)
    load_ops()
    loaded = load_model(model_dir, checkpoint)
    return export_native_saved_model(
        loaded.model,
        loaded.vocabulary,
        loaded.tasks.exported(),
        loaded.options.replace(**(options or {})),
        output,
        weight_type=weight_type,
        overwrite=overwrite,
    )
