"""Translates text with an engine file. Does not import TensorFlow."""

import os
from collections.abc import Mapping
from typing import Any

from keras_mtl.decoding.engine_file import TextSide
from keras_mtl.decoding.engine_search import EngineSearch, open_engine
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.text_translator import TextTranslator


class EngineTranslator(TextTranslator):
    """Translates lines with an engine file. Results do not depend on machine, batch or threads.

    Args:
        path: a file written by `keras-mtl export --format engine`.
        options: beam-search options, or a mapping of those that differ from the file's options.
            Without options in the file, the defaults are those of `BeamOptions()`, limited to the
            model's positions.
        batch_size: maximum of sentences that each worker processes at once, >= 1.
        on_long_line: see `TextTranslator`.
        workers: number of threads that share a call; default one per processor available to this
            process.
        compute_type: `float32`, `int8`, or `auto` for the type of the file's weights.

    Attributes:
        engine: the engine.

    Raises:
        ExportError: the file is missing, damaged or has no vocabulary.
        InputError: an argument is out of range.
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
        compute_type: str = "auto",
    ) -> None:
        self.engine = open_engine(path, workers, compute_type)
        text = TextSide.read(self.engine.file)
        if not isinstance(options, BeamOptions):
            positions = self.engine.hyperparameters["max_length"]
            default = BeamOptions(max_length=min(BeamOptions().max_length, positions))
            options = (text.options or default).replace(**(options or {}))
        super().__init__(
            EngineSearch(self.engine, text.vocabulary, options),
            text.vocabulary,
            text.tasks,
            batch_size=batch_size,
            on_long_line=on_long_line,
        )
