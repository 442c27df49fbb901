"""The text interface of an exported model, for any search: text and task in, translations out."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

import keras_mtl
from keras_mtl.data.sentencepiece_model import with_rule_table
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.errors import ExportError
from keras_mtl.export.output import check_free
from keras_mtl.files import replacing_directory

# `keras_mtl.data.cleaning.normalize` as regular expressions of RE2: the characters that it removes,
# and the white space of `str.split`.
_INVISIBLE = "[\u00ad\u200b\u2060\ufeff]"
_SPACE = "[\x09-\x0d\x1c-\x20\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"


_TEXT_AND_TASK = [
    tf.TensorSpec([None], tf.string, "text"),
    tf.TensorSpec(None, tf.string, "task"),
]


def normalize_text(text: tf.Tensor) -> tf.Tensor:
    """Normalizes text in the graph like `keras_mtl.data.cleaning.normalize`.

    Args:
        text: string tensor of any shape. Bytes that are not UTF-8 become U+FFFD.
    """
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    text = tf.strings.regex_replace(text, _INVISIBLE, "")
    return single_spaces(tf_text.normalize_utf8(text, "NFC"))


def single_spaces(text: tf.Tensor) -> tf.Tensor:
    """Returns `" ".join(text.split())` of Python for a string tensor of any shape."""
    return tf.strings.strip(tf.strings.regex_replace(text, _SPACE, " "))


class TranslationModule(tf.Module):
    """The saved object: the tokenizer and a search.

    Args:
        search: a `tf.Module` that is called in a graph:
            `(source int32 [N, S], decoder int32 [N], lengths int32 [N], alignments bool) -> dict`.
            A source consists of tag, tokens, end of sentence and padding; `lengths` counts its
            tokens. The result has `ids` int32 `[N, H, T]`; `lengths` int32, `scores` and
            `log_probabilities` float32 and `ended` bool, each `[N, H]`; `token_scores` float32
            `[N, H, T + 1]`; and, if requested, `alignments` float32 `[N, H, T + 1, S]`. H is
            `num_hypotheses`. A search may have a method `with_options`, which takes options as
            string `[]` instead of `alignments`, and always returns alignments. This object then has
            a function `with_options`, too.
        vocabulary: the vocabulary of the model.
        tasks: the tasks of the model.
        options: the options of the search, which only `with_options` can change.
        max_length: number of positions of the model.
        alignments: whether the search computes alignments, which `hypotheses` then returns.
    """

    def __init__(
        self,
        search: Any,
        vocabulary: Vocabulary,
        tasks: Sequence[TranslationTask],
        options: BeamOptions,
        max_length: int,
        alignments: bool = False,
    ) -> None:
        super().__init__(name="keras_mtl_translation")
        self._search = search
        self._alignments = alignments
        self._options = options
        self._vocabulary = vocabulary
        self._tasks = tuple(tasks)
        self._tags = tuple(vocabulary.source.tag_id(task.target) for task in tasks)
        self._max_tokens = max_length - 2  # The tag and the end of sentence.
        self._tokenizer = _tokenizer(vocabulary)
        self._source_tokenizer = self._tokenizer
        if vocabulary.has_source:
            # Two tokenizers of the same name in a loaded SavedModel would have the same model.
            self._source_tokenizer = _tokenizer(vocabulary.source, "SourceTokenizerInitializer")
        # Not a method, because saving an object traces all its functions.
        self.with_options: Any = None
        if hasattr(search, "with_options"):
            self.with_options = tf.function(
                self._with_options,
                input_signature=[*_TEXT_AND_TASK, tf.TensorSpec(None, tf.string, "options")],
                autograph=False,
            )
        names = tf.constant([task.name for task in tasks])
        indices = tf.range(len(tasks), dtype=tf.int64)
        self._indices = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(names, indices), default_value=-1
        )

    @tf.function(input_signature=_TEXT_AND_TASK, autograph=False)
    def translate(self, text: tf.Tensor, task: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates sentences.

        Args:
            text: string `[N]`, one sentence each. The translation of an empty sentence is "".
            task: string `[]` or `[N]`, names of tasks.

        Returns:
            `translations`, string `[N, num_hypotheses]`, best first; `scores`, float32 of the same
            shape, -inf if there is no such hypothesis; and `lengths`, int32 of the same shape, in
            tokens.
        """
        return self._texts(self._search(*self._sources(text, task), False))

    @tf.function(input_signature=_TEXT_AND_TASK, autograph=False)
    def hypotheses(self, text: tf.Tensor, task: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates sentences and returns all fields of `keras_mtl.engine.Hypothesis`.

        Args:
            text: as for `translate`.
            task: as for `translate`.

        Returns:
            The outputs of `translate`; `ids` int32 and `tokens` string, each
            `[N, num_hypotheses, T]`; `log_probabilities` float32 and `ended` bool, each
            `[N, num_hypotheses]`; `token_scores` float32 `[N, num_hypotheses, T + 1]`; and, if the
            search computes them, `alignments` float32 `[N, num_hypotheses, T + 1, S]` and
            `source_tokens` string `[N, S]`.
        """
        inputs = self._sources(text, task)
        return self._details(inputs[0], self._search(*inputs, self._alignments))

    def _with_options(
        self, text: tf.Tensor, task: tf.Tensor, options: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Translates sentences with other options of beam search.

        Args:
            text: as for `translate`.
            task: as for `translate`.
            options: string `[]`, for example `beam_size=8,alpha=0.6`; see
                `keras_mtl.decoding.graph_search.graph_options.parse_options`.

        Returns:
            The outputs of `hypotheses`, including `alignments` and `source_tokens`.
        """
        inputs = self._sources(text, task)
        options = tf.reshape(options, [])
        return self._details(inputs[0], self._search.with_options(*inputs, options))

    def _details(self, source: tf.Tensor, found: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the result of a search with texts and pieces."""
        shown = tf.sequence_mask(found["lengths"], tf.shape(found["ids"])[2])
        result = {**self._texts(found), **found}
        result["tokens"] = tf.where(shown, self._tokenizer.id_to_string(found["ids"]), "")
        if "alignments" in found:
            used = tf.not_equal(source, self._vocabulary.pad_id)
            result["source_tokens"] = tf.where(
                used, self._source_tokenizer.id_to_string(source), ""
            )
        return result

    def _sources(self, text: tf.Tensor, task: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Tokenizes texts.

        Returns:
            The source ids, int32 `[N, S]`, the decoder of each sentence, int32 `[N]`, and its
            number of tokens, int32 `[N]`.
        """
        count = tf.shape(text)[0]
        index = self._task_index(tf.broadcast_to(tf.reshape(task, [-1]), [count]))
        pieces = self._source_tokenizer.tokenize(normalize_text(text))
        lengths = tf.cast(pieces.row_lengths(), tf.int32)
        longest = tf.cast(tf.argmax(tf.concat([lengths, [0]], 0)), tf.int32)
        fits = tf.reduce_all(lengths <= self._max_tokens)
        message = tf.strings.format(
            "sentence {} of the batch has {} tokens, but the model accepts at most {}: split it",
            (longest, tf.concat([lengths, [0]], 0)[longest], self._max_tokens),
        )
        with tf.control_dependencies([tf.debugging.Assert(fits, [message])]):
            lengths = tf.identity(lengths)
        tags = tf.gather(self._tags, index)
        decoder = tf.gather([task.route for task in self._tasks], index)
        # Dense tensors, because concatenating ragged ones makes oneDNN print an error about int64.
        pad, eos = self._vocabulary.pad_id, self._vocabulary.eos_id
        source = tf.concat([tags[:, None], pieces.to_tensor(pad)], 1)
        source = tf.pad(source, [[0, 0], [0, 1]], constant_values=pad)
        is_end = tf.range(tf.shape(source)[1]) == lengths[:, None] + 1
        source = tf.where(is_end, eos, source)
        return source, decoder, lengths

    def _texts(self, found: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        ids, lengths = found["ids"], found["lengths"]
        flat = tf.RaggedTensor.from_tensor(
            tf.reshape(ids, [tf.size(lengths), tf.shape(ids)[2]]), tf.reshape(lengths, [-1])
        )
        texts = single_spaces(self._tokenizer.detokenize(flat))
        return {
            "translations": tf.reshape(texts, tf.shape(lengths)),
            "scores": found["scores"],
            "lengths": lengths,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")], autograph=False)
    def count_tokens(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `tokens`, int32 `[N]`: source lengths without tag and end of sentence."""
        pieces = self._source_tokenizer.tokenize(normalize_text(text))
        return {"tokens": tf.cast(pieces.row_lengths(), tf.int32)}

    @tf.function(input_signature=[], autograph=False)
    def tasks(self) -> dict[str, tf.Tensor]:
        """Describes the model.

        Returns:
            `name`, `source` and `target`, string `[T]`, the tasks and their languages; `options`,
            string `[]`, the beam search options as JSON; `max_source_tokens`, int32 `[]`, the
            maximum length of a source; and `version`, string `[]`, the version of keras_mtl.
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
        """Returns the index of each task, int32 `[N]`. The message of a failure lists the tasks."""
        index = tf.cast(self._indices.lookup(names), tf.int32)
        unknown = tf.concat([tf.boolean_mask(names, index < 0), [""]], 0)[0]
        known = ", ".join(task.name for task in self._tasks)
        message = tf.strings.join(["unknown task ", unknown, f"; known: {known}"])
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(index >= 0), [message])]):
            return tf.identity(index)


def _tokenizer(vocabulary: Vocabulary, name: str | None = None) -> tf_text.SentencepieceTokenizer:
    """Returns the tokenizer of one side.

    Args:
        vocabulary: the vocabulary of the side.
        name: name of its operations; None takes that of tensorflow-text.
    """
    model = with_rule_table(vocabulary.tokenizer_bytes)
    return tf_text.SentencepieceTokenizer(model, tf.int32, name=name)


def save_translation_module(
    module: TranslationModule, output: str | os.PathLike[str], overwrite: bool
) -> Path:
    """Writes a SavedModel. The directory is complete or absent.

    Raises:
        ExportError: the directory exists or cannot be written.
    """
    path = Path(output)
    check_free(path, overwrite)
    signatures = {
        "serving_default": module.translate,
        "hypotheses": module.hypotheses,
        "tasks": module.tasks,
        "count_tokens": module.count_tokens,
    }
    if module.with_options is not None:
        signatures["with_options"] = module.with_options
    try:
        with replacing_directory(path) as directory:
            tf.saved_model.save(module, str(directory), signatures=signatures)
    except (tf.errors.OpError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise ExportError(
            f"{path} could not be written: {reason}. Free disk space or choose another output"
        ) from error
    return path
