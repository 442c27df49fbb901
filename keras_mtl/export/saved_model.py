"""The portable SavedModel: text and task in, translations out.

It holds the tokenizer, the model and the beam search, made of operations of TensorFlow and
tensorflow-text alone: a process that imports these two can serve it.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

import keras_mtl
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.loading import load_model
from keras_mtl.decoding.model_search import ModelSearch, step_sizes
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.errors import ExportError

# `keras_mtl.data.cleaning.normalize` as regular expressions of RE2: what it removes, and what
# `str.split` takes for white space.
_INVISIBLE = "[\u00ad\u200b\u2060\ufeff]"
_SPACE = "[\x09-\x0d\x1c-\x20\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"


def normalize_text(text: tf.Tensor) -> tf.Tensor:
    """Cleans text as ``keras_mtl.data.cleaning.normalize`` does, in the graph.

    Args:
      text: string tensor of any shape; bytes that are no UTF-8 become U+FFFD.
    """
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    text = tf.strings.regex_replace(text, _INVISIBLE, "")
    return single_spaces(tf_text.normalize_utf8(text, "NFC"))


def single_spaces(text: tf.Tensor) -> tf.Tensor:
    """``" ".join(text.split())`` of Python for a string tensor of any shape."""
    return tf.strings.strip(tf.strings.regex_replace(text, _SPACE, " "))


class TranslationModule(tf.Module):
    """What is saved.

    Args:
      model: a trained ``keras_mtl.models.Transformer``.
      vocabulary: its vocabulary.
      tasks: its tasks.
      options: beam search; fixed from here on.
    """

    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        tasks: Sequence[TranslationTask],
        options: BeamOptions,
    ) -> None:
        super().__init__(name="keras_mtl_translation")
        self._search = ModelSearch(model, vocabulary, options)
        self._options = self._search.options
        self._vocabulary = vocabulary
        self._tasks = tuple(tasks)
        self._tags = tuple(vocabulary.tag_id(task.target) for task in tasks)
        self._max_tokens = model.max_length - 2  # The tag and the end of sentence.
        # A Keras model would be saved with all its methods; its variables are enough.
        self._model_variables = [variable.value for variable in model.variables]
        self._tokenizer = tf_text.SentencepieceTokenizer(vocabulary.model_bytes, tf.int32)
        names = tf.constant([task.name for task in tasks])
        indices = tf.range(len(tasks), dtype=tf.int64)
        self._indices = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(names, indices), default_value=-1
        )

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "text"),
            tf.TensorSpec(None, tf.string, "task"),
        ],
        autograph=False,
    )
    def translate(self, text: tf.Tensor, task: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates.

        Args:
          text: string[N], one sentence each; an empty one gives "".
          task: string[] or string[N], names of tasks.

        Returns:
          ``translations`` string[N, num_hypotheses], best first; ``scores`` float32 of the same
          shape, -inf where there is no hypothesis; ``lengths`` int32 of the same shape, tokens.
        """
        count = tf.shape(text)[0]
        index = self._task_index(tf.broadcast_to(tf.reshape(task, [-1]), [count]))
        pieces = self._tokenizer.tokenize(normalize_text(text))
        lengths = tf.cast(pieces.row_lengths(), tf.int32)
        longest = tf.cast(tf.argmax(tf.concat([lengths, [0]], 0)), tf.int32)
        fits = tf.reduce_all(lengths <= self._max_tokens)
        message = tf.strings.format(
            "sentence {} of the batch has {} tokens and the model takes {}: split it",
            (longest, tf.concat([lengths, [0]], 0)[longest], self._max_tokens),
        )
        with tf.control_dependencies([tf.debugging.Assert(fits, [message])]):
            lengths = tf.identity(lengths)
        tags = tf.gather(self._tags, index)
        decoder = tf.gather([task.decoder for task in self._tasks], index)
        eos = tf.fill([count, 1], self._vocabulary.eos_id)
        source = tf.concat([tags[:, None], pieces, eos], axis=1).to_tensor(self._vocabulary.pad_id)
        ids, lengths, scores = self._hypotheses(source, decoder, self._limits(lengths), lengths)
        flat = tf.RaggedTensor.from_tensor(
            tf.reshape(ids, [-1, self._options.max_length]), tf.reshape(lengths, [-1])
        )
        texts = single_spaces(self._tokenizer.detokenize(flat))
        return {
            "translations": tf.reshape(texts, tf.shape(lengths)),
            "scores": scores,
            "lengths": lengths,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")], autograph=False)
    def count_tokens(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns ``tokens``: int32[N], source tokens of each sentence, tag and end not counted."""
        pieces = self._tokenizer.tokenize(normalize_text(text))
        return {"tokens": tf.cast(pieces.row_lengths(), tf.int32)}

    @tf.function(input_signature=[], autograph=False)
    def tasks(self) -> dict[str, tf.Tensor]:
        """Describes the model.

        Returns:
          ``name``, ``source``, ``target``: string[T], the tasks and their languages; ``options``:
          string[], the options of beam search as JSON; ``max_source_tokens``: int32[], the longest
          sentence; ``version``: string[], that of keras_mtl.
        """
        return {
            "name": tf.constant([task.name for task in self._tasks]),
            "source": tf.constant([task.source for task in self._tasks]),
            "target": tf.constant([task.target for task in self._tasks]),
            "options": tf.constant(json.dumps(dataclasses.asdict(self._options))),
            "max_source_tokens": tf.constant(self._max_tokens),
            "version": tf.constant(keras_mtl.__version__),
        }

    def _task_index(self, names: tf.Tensor) -> tf.Tensor:
        """Returns int32[N], or fails with a message that lists the tasks."""
        index = tf.cast(self._indices.lookup(names), tf.int32)
        unknown = tf.concat([tf.boolean_mask(names, index < 0), [""]], 0)[0]
        known = ", ".join(task.name for task in self._tasks)
        message = tf.strings.join(["unknown task ", unknown, f"; known: {known}"])
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(index >= 0), [message])]):
            return tf.identity(index)

    def _limits(self, lengths: tf.Tensor) -> tf.Tensor:
        """``BeamOptions.sentence_max_length`` for each sentence."""
        options = self._options
        limits = tf.fill(tf.shape(lengths), options.max_length)
        if options.max_length_factor is not None:
            product = tf.floor(options.max_length_factor * tf.cast(lengths, tf.float64))
            product = tf.minimum(product, float(options.max_length))
            limits = tf.minimum(limits, tf.cast(product, tf.int32) + options.max_length_offset)
        return tf.where(lengths > 0, tf.maximum(limits, max(1, options.min_length)), 0)

    def _hypotheses(
        self, source: tf.Tensor, decoder: tf.Tensor, limits: tf.Tensor, lengths: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Searches the rows of one decoder at a time; rows without any token are left out.

        Returns:
          ids int32[N, num_hypotheses, max_length], lengths int32 and scores float32
          [N, num_hypotheses].
        """
        options = self._options
        count = tf.shape(source)[0]
        shape = [count, options.num_hypotheses]
        first = tf.equal(tf.range(options.num_hypotheses), 0)
        scores = tf.broadcast_to(tf.where(first, 0.0, -float("inf")), shape)
        ids = tf.fill([*shape, options.max_length], self._vocabulary.pad_id)
        used, _ = tf.unique(tf.boolean_mask(decoder, lengths > 0))

        def body(
            i: tf.Tensor, ids: tf.Tensor, found_lengths: tf.Tensor, scores: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            rows = tf.where(tf.equal(decoder, used[i]) & (lengths > 0))  # [rows, 1]
            row_ids, row_lengths, row_scores = self._search_rows(
                tf.gather_nd(source, rows),
                tf.gather_nd(decoder, rows),
                tf.gather_nd(limits, rows),
                tf.cast(rows[:, 0], tf.int32),
            )
            return (
                i + 1,
                tf.tensor_scatter_nd_update(ids, rows, row_ids),
                tf.tensor_scatter_nd_update(found_lengths, rows, row_lengths),
                tf.tensor_scatter_nd_update(scores, rows, row_scores),
            )

        _, ids, found_lengths, scores = tf.while_loop(
            lambda i, *_: i < tf.size(used),
            body,
            (tf.constant(0), ids, tf.zeros(shape, tf.int32), scores),
        )
        return ids, found_lengths, scores

    def _search_rows(
        self, source: tf.Tensor, decoder: tf.Tensor, limits: tf.Tensor, rows: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Searches with the smallest number of steps that is enough; fails on a NaN."""
        sizes = step_sizes(self._options.max_length)

        def branch(steps: int) -> tuple[tf.Tensor, ...]:
            result = self._search.search(source, decoder, limits, steps)
            rest = self._options.max_length - steps
            ids = tf.pad(
                result.ids, [[0, 0], [0, 0], [0, rest]], constant_values=self._vocabulary.pad_id
            )
            return ids, result.lengths, result.scores, result.nan_steps

        size = tf.searchsorted(sizes, [tf.reduce_max(limits)])[0]
        branches = [lambda steps=steps: branch(steps) for steps in sizes]
        ids, lengths, scores, nan_steps = tf.switch_case(size, branches)
        where = tf.cast(tf.argmax(nan_steps), tf.int32)
        message = tf.strings.format(
            "sentence {} of the batch: the model's output is not a number at decoding step {}",
            (rows[where], nan_steps[where]),
        )
        fine = tf.debugging.Assert(tf.reduce_all(nan_steps < 0), [message])
        with tf.control_dependencies([fine]):
            return tf.identity(ids), lengths, scores


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

    It is written under another name and renamed: the folder is complete or not there.

    Args:
      model: see ``TranslationModule``.
      vocabulary: the model's.
      tasks: the model's.
      options: beam search of the exported model.
      output: the folder to make.
      overwrite: whether a folder of this name may be replaced.

    Returns:
      The folder.

    Raises:
      ExportError: the folder exists, or it cannot be written.
      InputError: options that the model cannot fulfil.
    """
    path = Path(output)
    _check_free(path, overwrite)
    module = TranslationModule(model, vocabulary, tasks, options)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    old = path.with_name(f".{path.name}.old-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tf.saved_model.save(
            module,
            str(partial),
            signatures={
                "serving_default": module.translate,
                "tasks": module.tasks,
                "count_tokens": module.count_tokens,
            },
        )
        if path.exists():
            path.rename(old)
        partial.rename(path)
    except (tf.errors.OpError, OSError) as error:
        if old.exists() and not path.exists():
            old.rename(path)
        reason = str(error).strip().splitlines()[0][:300]
        raise ExportError(
            f"{path} could not be written: {reason}; free space or choose another output"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return path


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
      model_dir: folder that ``keras-mtl train`` has written.
      output: the folder to make.
      options: what differs from ``task.decoding`` of ``params.yaml``.
      checkpoint: see ``keras_mtl.decoding.loading.load_model``.
      overwrite: whether a folder of this name may be replaced.

    Returns:
      The folder.

    Raises:
      CheckpointError: the model directory cannot be used.
      ExportError: the folder exists, or it cannot be written.
      InputError: an option is out of its range.
    """
    _check_free(Path(output), overwrite)
    loaded = load_model(model_dir, checkpoint)
    beam_options = loaded.options.replace(**(options or {}))
    return export_saved_model(
        loaded.model,
        loaded.vocabulary,
        loaded.tasks.tasks,
        beam_options,
        output,
        overwrite=overwrite,
    )


def _check_free(path: Path, overwrite: bool) -> None:
    """Refuses what must not be replaced: anything, or with ``overwrite`` all but a SavedModel."""
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise ExportError(f"{path} exists; give --overwrite to replace it, or another output")
    if not (path / "saved_model.pb").is_file():
        raise ExportError(
            f"{path} exists and is no exported model, so --overwrite does not replace it; give "
            "another output"
        )
