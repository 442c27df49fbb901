"""Text in, text out, with an engine file. Needs no TensorFlow."""

import os
from collections.abc import Mapping
from typing import Any

from keras_mtl.decoding.engine_file import TextSide
from keras_mtl.decoding.engine_search import EngineSearch, open_engine
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.text_translator import TextTranslator


class EngineTranslator(TextTranslator):
    """Translates lines with an engine file; results do not depend on machine, batch or threads.

    Args:
        path: file that `keras-mtl export --format engine` has written.
        options: beam search, or only what differs from the file's own options (`BeamOptions()`
            within the model's positions if the file has none).
        batch_size: sentences that each worker has in work at once, >= 1.
        on_long_line: see `TextTranslator`.
        workers: threads that share a call; default one for each processor that this process may
            use.
        compute_type: `float32`, `int8`, or `auto` for that of the file's weights.

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
