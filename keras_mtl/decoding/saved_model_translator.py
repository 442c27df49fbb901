"""Translates text with an exported model."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.decoding.graph_search.graph_options import OPTION_NAMES
from keras_mtl.decoding.model_kinds import ModelKind, model_kind, not_usable
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TranslationTask, find_task, is_zero_shot
from keras_mtl.decoding.text_translator import check_arguments
from keras_mtl.engine import load_ops
from keras_mtl.engine.hypothesis import (
    Hypothesis,
    empty_hypothesis,
    hypothesis_of,
    impossible_hypothesis,
)
from keras_mtl.errors import ExportError, InputError


class SavedModelTranslator:
    """Translates lines with a model written by `keras-mtl export`.

    It has the interface of `Translator`.

    Args:
        path: the exported directory.
        options: beam-search options that replace those of the export, by name. Only a portable
            model accepts them, and `max_length` can only be lower than that of the export.
        batch_size: lines per batch, >= 1.
        on_long_line: `error`, or `skip` to return an empty translation for a line that is longer
            than the model's positions.

    Attributes:
        tasks: the model's tasks.
        options: the beam-search options.
        max_source_tokens: maximum of tokens in a source, without tag and end of sentence.
        version: version of the keras_mtl that exported the model.

    Raises:
        ExportError: the directory is missing, damaged or not an export of keras_mtl.
        InputError: an argument is out of range.
        NativeError: the model needs operations of keras_mtl that cannot be loaded.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        options: Mapping[str, Any] | None = None,
        *,
        batch_size: int = 64,
        on_long_line: str = "error",
    ) -> None:
        check_arguments(batch_size, on_long_line)
        if on_long_line == "truncate":
            raise InputError(
                f"on_long_line={on_long_line!r}: give error or skip. An exported model cannot "
                "truncate lines; a model directory can"
            )
        # Registers the operations of the tokenizer in the model.
        import tensorflow_text  # noqa: F401

        kind = model_kind(path)
        if kind not in (ModelKind.PORTABLE, ModelKind.NATIVE):
            raise ExportError(not_usable(path, "a SavedModel written by `keras-mtl export`"))
        if kind is ModelKind.NATIVE:
            load_ops()
        try:
            self._model = tf.saved_model.load(os.fspath(path))
            signatures = self._model.signatures
            # Exports of older versions have only text, score and length.
            self._search = signatures[
                "hypotheses" if "hypotheses" in signatures else "serving_default"
            ]
            self._with_options = signatures.get("with_options")
            self._count = signatures["count_tokens"]
            with _as_exported():
                about = {name: value.numpy() for name, value in signatures["tasks"]().items()}
            columns = [about[name].tolist() for name in ("name", "source", "target")]
            self.tasks = tuple(
                TranslationTask(*(text.decode() for text in row))
                for row in zip(*columns, strict=True)
            )
            self.options = BeamOptions.from_mapping(json.loads(about["options"]))
            self.max_source_tokens = int(about["max_source_tokens"])
            self.version: str = about["version"].decode()
        except (tf.errors.OpError, OSError, KeyError, ValueError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise ExportError(
                f"{path} cannot be loaded ({reason}). Export the model again with `keras-mtl "
                "export`"
            ) from error
        self.batch_size = batch_size
        self.on_long_line = on_long_line
        self._given = options or {}
        self._check_options(path)

    def _check_options(self, path: str | os.PathLike[str]) -> None:
        """Merges the options of the export with those of the caller.

        Raises:
            InputError: the model does not accept an option, or it is out of range.
        """
        if not self._given:
            return
        known = () if self._with_options is None else OPTION_NAMES
        fixed = [name for name in self._given if name not in known]
        if fixed:
            raise InputError(
                f"{path} is an exported model, and the export fixed {', '.join(fixed)}. Omit "
                "it, or use the model directory"
            )
        longest = self.options.max_length
        self.options = self.options.replace(**self._given)
        if self.options.max_length > longest:
            raise InputError(
                f"max_length={self.options.max_length}: {path} was exported with max_length="
                f"{longest}. Give at most that number, or export the model again"
            )

    def translate(self, lines: Sequence[str], task: str) -> list[str]:
        """Returns the best translation of each line; see `Translator.translate`."""
        return [found[0].text for found in self.hypotheses(lines, task)]

    def hypotheses(
        self, lines: Sequence[str], task: str, *, alignments: bool = False, first_line: int = 1
    ) -> list[list[Hypothesis]]:
        """Returns the translations of each line; see `Translator.hypotheses`.

        Raises:
            InputError: the task is unknown, a line is too long, or the model has no alignments.
        """
        find_task(self.tasks, task)
        if is_zero_shot(self.tasks, task):
            raise InputError(
                f"task {task!r} was not trained, and an exported SavedModel has only the tasks "
                f"{', '.join(each.name for each in self.tasks)}. Use the model directory or an "
                "engine file"
            )
        search, inputs = self._search, {"task": tf.constant(task)}
        no_alignments = alignments and "alignments" not in search.structured_outputs
        if self._with_options is not None and (self._given or no_alignments):
            search = self._with_options
            inputs["options"] = tf.constant(_as_text(self._given))
        elif no_alignments:
            raise InputError(
                "this exported model has no alignments, because an older version exported it. "
                "Export it again, or use the model directory"
            )
        found = [[empty_hypothesis()] for _ in lines]
        if not lines:
            return found
        order = self._order(lines, first_line)
        for begin in range(0, len(order), self.batch_size):
            rows = order[begin : begin + self.batch_size]
            text = tf.constant([lines[i] for i in rows])
            try:
                with _as_exported():
                    result = search(text=text, **inputs)
            except tf.errors.InvalidArgumentError as error:
                shown = ", ".join(str(first_line + i) for i in rows[:8])
                ellipsis = ", …" if len(rows) > 8 else ""
                raise InputError(f"lines {shown}{ellipsis}: {error.message}") from error
            arrays = {name: value.numpy() for name, value in result.items()}
            if not alignments:
                arrays.pop("alignments", None)
            for row, i in enumerate(rows):
                count = np.count_nonzero(arrays["scores"][row] > -np.inf)
                found[i] = [_hypothesis(arrays, row, n) for n in range(count)]
                found[i] = found[i] or [impossible_hypothesis()]
        return found

    def _order(self, lines: Sequence[str], first_line: int) -> list[int]:
        """Returns the indices of the lines to translate, shortest first; applies `on_long_line`."""
        with _as_exported():
            counts = self._count(text=tf.constant(list(lines)))["tokens"].numpy()
        order = []
        for i in np.argsort(counts, kind="stable"):
            if counts[i] > self.max_source_tokens and self.on_long_line == "error":
                raise InputError(
                    f"line {first_line + i} has {counts[i]} tokens, more than the model's maximum "
                    f"of {self.max_source_tokens}. Split the line, or set on_long_line "
                    "(--on_long_line) to skip"
                )
            if 0 < counts[i] <= self.max_source_tokens:
                order.append(int(i))
        return order


def _as_text(options: Mapping[str, Any]) -> str:
    """Formats options for the signature `with_options`."""
    return ",".join(f"{name}={0 if value is None else value}" for name, value in options.items())


def _hypothesis(arrays: dict[str, np.ndarray], row: int, n: int) -> Hypothesis:
    """Returns one hypothesis from the outputs of a signature."""
    text, length = arrays["translations"][row, n].decode(), int(arrays["lengths"][row, n])
    if "ids" not in arrays:
        return Hypothesis(None, float(arrays["scores"][row, n]), text=text, length=length)
    pieces = arrays["source_tokens"][row] if "source_tokens" in arrays else ()
    source = [piece.decode() for piece in pieces if piece]
    hypothesis = hypothesis_of(arrays, (row, n), len(source))
    return hypothesis.replace(
        text=text,
        tokens=tuple(piece.decode() for piece in arrays["tokens"][row, n, :length]),
        source_tokens=() if hypothesis.alignment is None else tuple(source),
    )


_LOCK = threading.Lock()
_inside = 0  # number of threads in `_as_exported`
_before = False


@contextlib.contextmanager
def _as_exported() -> Iterator[None]:
    """Runs graphs unchanged, without TensorFlow's graph optimizer.

    For an exported search, the optimizer takes 1.5 s at the first call and does not make later
    calls faster. For exports of older versions, it also prints a dozen warnings. The setting is
    global and is read at each call, so the last of several threads restores it. Calls of other
    threads meanwhile also run without the optimizer, with the same results.
    """
    global _inside, _before
    name = "disable_meta_optimizer"
    with _LOCK:
        if _inside == 0:
            _before = tf.config.optimizer.get_experimental_options().get(name, False)
            tf.config.optimizer.set_experimental_options({name: True})
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0:
                tf.config.optimizer.set_experimental_options({name: _before})
