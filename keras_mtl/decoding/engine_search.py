"""Searches with the engine, for models in files and in memory. Does not import TensorFlow."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_mtl.configuration.sublayers import only_tensorflow
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.engine_file import WEIGHT_TYPES, write_engine_file
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.suppressed import model_options, suppressed_ids
from keras_mtl.decoding.text_translator import Request
from keras_mtl.engine import Engine, Hypothesis
from keras_mtl.errors import InputError, nearest


def open_engine(
    path: str | os.PathLike[str], workers: int | None, compute_type: str = "auto"
) -> Engine:
    """Opens an engine.

    Args:
        path: the engine file.
        workers: number of threads that share a call; None uses one per processor available to this
            process.
        compute_type: see `Engine`.
    """
    count = len(os.sched_getaffinity(0)) if workers is None else workers
    return Engine(path, count, compute_type=compute_type)


class EngineSearch:
    """Searches with an engine for any number of sentences.

    Args:
        engine: the engine.
        vocabulary: the model's vocabulary.
        options: the options; all options of `BeamOptions` are supported.

    Raises:
        InputError: the model does not support the options.
    """

    def __init__(self, engine: Engine, vocabulary: Vocabulary, options: BeamOptions) -> None:
        self.engine = engine
        self.max_length: int = engine.hyperparameters["max_length"]
        suppressed = engine.hyperparameters["not_text"]
        self.options = model_options(options, suppressed, vocabulary, self.max_length)

    def search(self, request: Request, batch_size: int) -> list[list[Hypothesis]]:
        """See `IdSearch`. Line numbers identify the sentences in messages and for sampling."""
        return _search(self.engine, self.options, request, batch_size)

    def refresh(self) -> None:
        """See `IdSearch`. Does nothing, because a file does not change."""


class ModelEngineSearch:
    """Searches with the engine for a model in memory. The engine has its own copy of the weights.

    Args:
        model: a built `keras_mtl.models.Transformer`.
        vocabulary: the model's vocabulary.
        tasks: the model's tasks.
        options: the options; all options of `BeamOptions` are supported.
        compute_type: `float32` or `int8`.
        workers: see `open_engine`.

    Raises:
        InputError: an argument is out of range, or the engine does not support the model.
    """

    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        tasks: Sequence[Any],
        options: BeamOptions,
        compute_type: str = "float32",
        workers: int | None = None,
    ) -> None:
        if compute_type not in WEIGHT_TYPES:
            raise InputError(
                f"compute_type={compute_type!r} is unknown{nearest(compute_type, WEIGHT_TYPES)}"
            )
        if reason := only_tensorflow(model):
            raise InputError(f"backend=native: {reason}. Use backend tf")
        self.max_length: int = model.max_length
        self.options = model_options(
            options, suppressed_ids(vocabulary), vocabulary, model.max_length
        )
        self._model = model
        self._vocabulary = vocabulary
        self._tasks = tasks
        self._compute_type = compute_type
        self._workers = workers
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine; it is created on first use.

        Raises:
            ExportError: a weight is not finite.
        """
        if self._engine is None:
            with tempfile.TemporaryDirectory(prefix="keras_mtl-") as directory:
                # The engine maps the file, which can therefore be deleted.
                path = write_engine_file(
                    self._model,
                    self._vocabulary,
                    self._tasks,
                    Path(directory) / "model.kmtl",
                    weight_type=self._compute_type,
                )
                self._engine = open_engine(path, self._workers)
        return self._engine

    def refresh(self) -> None:
        """Drops the copy of the weights. The next search copies the model's current weights."""
        self._engine = None

    def search(self, request: Request, batch_size: int) -> list[list[Hypothesis]]:
        """See `IdSearch`."""
        return _search(self.engine, self.options, request, batch_size)


def _search(
    engine: Engine, options: BeamOptions, request: Request, batch_size: int
) -> list[list[Hypothesis]]:
    return engine.translate(
        request.sources,
        options,
        decoders=[request.decoder] * len(request.sources),
        prefixes=request.prefixes,
        biases=request.biases,
        sentence_indices=request.lines,
        alignments=request.alignments,
        max_batch_size=batch_size,
    )
