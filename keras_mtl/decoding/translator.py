"""Translates text with a Keras model."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.beam_search import raise_on_nan
from keras_mtl.decoding.model_search import Batch, ModelSearch
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.text_translator import Request, TextTranslator
from keras_mtl.engine.hypothesis import Hypothesis, hypothesis_of

if TYPE_CHECKING:
    from keras_mtl.decoding.saved_model_translator import SavedModelTranslator


class Translator(TextTranslator):
    """Translates lines with a model in memory. Each call uses the model's current weights.

    Lines are sorted by length and translated in batches. An empty line has an empty translation.

    Args:
        model: the model; see `ModelSearch`.
        vocabulary: the model's `Vocabulary`.
        tasks: objects with the attributes `name`, `source`, `target` and, if the model has several
            decoders, `decoder`.
        options: beam-search options; default `BeamOptions()`, limited to the model's positions.
        batch_size: lines per batch, >= 1.
        jit_compile: whether to compile with XLA; see `ModelSearch`.
        on_long_line: treatment of a line that is longer than the model's positions: `error`,
            `truncate` (translate its beginning) or `skip` (return an empty translation).

    Raises:
        InputError: an argument is out of range.

    Example:
        ```python
        import keras_mtl

        translator = keras_mtl.Translator.from_model_dir("runs/demo", {"beam_size": 8})
        print(translator.translate(["two trees"], "en-fr"))
        ```
    """

    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        tasks: Sequence[Any],
        options: BeamOptions | None = None,
        *,
        batch_size: int = 64,
        jit_compile: bool = False,
        on_long_line: str = "error",
    ) -> None:
        if options is None:
            options = BeamOptions(max_length=min(BeamOptions().max_length, model.max_length))
        self.model = model
        search = BatchSearch(model, vocabulary, options, jit_compile)
        super().__init__(
            search, vocabulary, tasks, batch_size=batch_size, on_long_line=on_long_line
        )

    @classmethod
    def from_model_dir(
        cls,
        model_dir: str | os.PathLike[str],
        options: BeamOptions | dict[str, Any] | None = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        batch_size: int | None = None,
        **arguments: Any,
    ) -> Self:
        """Loads a model written by `keras-mtl train`.

        Args:
            model_dir: directory with `params.yaml`, `vocabulary.model`, `tasks.json` and
                checkpoints.
            options: beam-search options, or a mapping of those that differ from `task.decoding` of
                `params.yaml`.
            checkpoint: prefix or directory of a checkpoint; default the best one, else the newest.
            batch_size: lines per batch; default `task.decoding.batch_size`.
            **arguments: further arguments of the constructor.

        Raises:
            CheckpointError: a file is missing, damaged, or belongs to another model.
        """
        from keras_mtl.decoding.loading import load_model

        loaded = load_model(model_dir, checkpoint)
        if not isinstance(options, BeamOptions):
            options = loaded.options.replace(**(options or {}))
        return cls(
            loaded.model,
            loaded.vocabulary,
            loaded.tasks.tasks,
            options,
            batch_size=loaded.batch_size if batch_size is None else batch_size,
            **arguments,
        )

    @staticmethod
    def from_saved_model(path: str | os.PathLike[str], **arguments: Any) -> "SavedModelTranslator":
        """Loads a model written by `keras-mtl export`; see `SavedModelTranslator`."""
        from keras_mtl.decoding.saved_model_translator import SavedModelTranslator

        return SavedModelTranslator(path, **arguments)


class BatchSearch:
    """Searches with a Keras model for any number of sentences, in batches of similar length.

    Args:
        model: the model; see `ModelSearch`.
        vocabulary: the model's vocabulary.
        options: beam-search options.
        jit_compile: whether to compile with XLA; see `ModelSearch`.
    """

    def __init__(
        self, model: Any, vocabulary: Vocabulary, options: BeamOptions, jit_compile: bool = False
    ) -> None:
        self._search = ModelSearch(model, vocabulary, options, jit_compile)
        self._vocabulary = vocabulary
        self._jit_compile = jit_compile
        self.max_length: int = model.max_length

    @property
    def options(self) -> BeamOptions:
        """Beam-search options, including all suppressed tokens."""
        return self._search.options

    def search(self, request: Request, batch_size: int) -> list[list[Hypothesis]]:
        """See `IdSearch`."""
        order = sorted(range(len(request.sources)), key=lambda i: len(request.sources[i]))
        found: list[list[Hypothesis]] = [[] for _ in order]
        for begin in range(0, len(order), batch_size):
            rows = order[begin : begin + batch_size]
            for i, hypotheses in zip(rows, self._batch(request, rows, batch_size), strict=True):
                found[i] = hypotheses
        return found

    def refresh(self) -> None:
        """See `IdSearch`. Does nothing, because each search uses the model's current weights."""

    def _batch(
        self, request: Request, chosen: list[int], batch_size: int
    ) -> list[list[Hypothesis]]:
        sources = [request.sources[i] for i in chosen]
        rows, time = len(sources), max(map(len, sources))
        if self._jit_compile:  # Every shape is compiled, so use full batches and few lengths.
            rows, time = batch_size, min(-(-time // 16) * 16, self.max_length)
        source = np.zeros([rows, time], np.int32)
        for row, ids in zip(source, sources, strict=False):
            row[: len(ids)] = ids
        # Padding rows need a token, because attention over no tokens is NaN.
        source[len(sources) :, :2] = self._vocabulary.bos_id, self._vocabulary.eos_id
        max_lengths = np.zeros([rows], np.int32)
        max_lengths[: len(chosen)] = [request.max_lengths[i] for i in chosen]
        indices = np.zeros([rows], np.int64)
        indices[: len(chosen)] = [request.lines[i] for i in chosen]
        batch = Batch(
            source,
            np.full([rows], request.decoder, np.int32),
            max_lengths,
            *_padded(request.prefixes, chosen, rows),
            *_padded(request.biases, chosen, rows),
            indices,
        )
        result = self._search(batch, request.alignments)
        names = [f"line {request.lines[i]}" for i in chosen]
        raise_on_nan(result.nan_steps, [*names, *[""] * (rows - len(names))])
        arrays = result._asdict()
        return [
            [hypothesis_of(arrays, (i, n), len(sources[i])) for n in range(result.counts[i])]
            for i in range(len(chosen))
        ]


def _padded(
    sequences: list[list[int]] | None, chosen: list[int], rows: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Returns the chosen sequences as int32[rows, n], n >= 1, and their lengths as int32[rows]."""
    if sequences is None:
        return None, None
    ids = np.zeros([rows, max([1, *(len(sequences[i]) for i in chosen)])], np.int32)
    lengths = np.zeros([rows], np.int32)
    for row, i in enumerate(chosen):
        lengths[row] = len(sequences[i])
        ids[row, : lengths[row]] = sequences[i]
    return ids, lengths
