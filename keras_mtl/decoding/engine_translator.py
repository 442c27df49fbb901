"""Text in, text out, with a model file of the C++ engine. Needs no TensorFlow."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.not_text import model_options
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.decoding.text_translator import Found, Request, TextTranslator
from keras_mtl.engine import native
from keras_mtl.errors import ExportError

MAGIC = b"KMTLMODL"


def is_engine_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a file that begins as the engine's model files do."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class EngineSearch:
    """The search of an engine over any number of sentences.

    Args:
      engine: the model.
      vocabulary: the model's.
      options: beam search; every option of ``BeamOptions``.

    Raises:
      InputError: options that the model cannot fulfill.
    """

    def __init__(self, engine: native.Engine, vocabulary: Vocabulary, options: BeamOptions) -> None:
        self.engine = engine
        self.max_length: int = engine.hyperparameters["max_length"]
        not_text = engine.hyperparameters["not_text"]
        self.options = model_options(options, not_text, vocabulary, self.max_length)

    def search(self, request: Request, batch_size: int) -> list[Found]:
        """See ``IdSearch``; sentences are named and sampled by their line."""
        return search_with(self.engine, self.options, request, batch_size)

    def refresh(self) -> None:
        """See ``IdSearch``; a file does not change."""


class EngineTranslator(TextTranslator):
    """Translates lines with a model file; results do not depend on machine, batch or threads.

    Args:
      path: file that ``keras-mtl export --format engine`` has written.
      options: beam search, or only what differs from the file's own options (of a file without,
        ``BeamOptions()`` within the model's positions).
      batch_size: sentences that each worker has in work at once, >= 1.
      on_long_line: see ``TextTranslator``.
      workers: threads that share a call; default one for each processor that this process may use.
      threads: threads inside one operation of a worker.
      compute_type: ``float32``, ``int8``, or ``auto`` for that of the file's weights.

    Attributes:
      engine: the engine.

    Raises:
      ExportError: the file is missing, damaged or without vocabulary.
      InputError: an argument is out of its range.
      NativeError: the C++ core cannot be loaded.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        options: BeamOptions | Mapping[str, Any] | None = None,
        *,
        batch_size: int = 64,
        on_long_line: str = "error",
        workers: int | None = None,
        threads: int = 1,
        compute_type: str = "auto",
    ) -> None:
        self.engine = open_engine(path, workers, threads, compute_type)
        if not isinstance(options, BeamOptions):
            options = _own_options(path, self.engine.hyperparameters).replace(**(options or {}))
        vocabulary, tasks = read_text_side(path)
        super().__init__(
            EngineSearch(self.engine, vocabulary, options),
            vocabulary,
            tasks,
            batch_size=batch_size,
            on_long_line=on_long_line,
        )


def search_with(
    engine: native.Engine, options: BeamOptions, request: Request, batch_size: int
) -> list[Found]:
    """Searches with an engine; see ``IdSearch.search``."""
    found = engine.translate(
        request.sources,
        options,
        decoders=[request.decoder] * len(request.sources),
        prefixes=request.prefixes,
        sentence_indices=request.lines,
        max_batch_size=batch_size,
    )
    return [[(h.tokens, h.score) for h in hypotheses] for hypotheses in found]


def _own_options(path: str | os.PathLike[str], about: Mapping[str, Any]) -> BeamOptions:
    if "decoding" not in about:
        return BeamOptions(max_length=min(BeamOptions().max_length, about["max_length"]))
    try:
        return BeamOptions.from_mapping(json.loads(about["decoding"]))
    except (ValueError, TypeError) as error:
        raise ExportError(
            f"{os.fspath(path)}: hyperparameter decoding: {error}; write the file again with "
            "`keras-mtl export --format engine`"
        ) from error


def open_engine(
    path: str | os.PathLike[str], workers: int | None, threads: int, compute_type: str
) -> native.Engine:
    """Opens an engine; ``workers`` None takes one for each processor this process may use."""
    count = len(os.sched_getaffinity(0)) if workers is None else workers
    return native.Engine(path, count, threads, compute_type=compute_type)


def read_text_side(
    path: str | os.PathLike[str],
) -> tuple[Vocabulary, tuple[TranslationTask, ...]]:
    """Reads vocabulary and tasks of a model file.

    Raises:
      ExportError: the file is damaged, or holds no vocabulary.
    """
    file = native.core().ModelFile(os.fspath(path), False)
    about = file.hyperparameters
    try:
        vocabulary = Vocabulary(np.asarray(file.tensor("vocabulary")).tobytes(), os.fspath(path))
        columns = ("names", "sources", "targets", "decoders")
        rows = zip(*(about[f"task_{column}"] for column in columns), strict=True)
        return vocabulary, tuple(TranslationTask(*row) for row in rows)
    except (KeyError, ValueError) as error:
        raise ExportError(
            f"{os.fspath(path)} does not hold vocabulary and tasks ({error}); write it with "
            "`keras-mtl export --format engine`"
        ) from error
