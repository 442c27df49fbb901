"""Loads every kind of model that translates or scores, and selects the backend.

Does not import TensorFlow until a model needs it.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl.configuration.sublayers import saved_only_tensorflow
from keras_mtl.decoding.engine_file import TextSide
from keras_mtl.decoding.engine_search import ModelEngineSearch, open_engine
from keras_mtl.decoding.engine_translator import EngineTranslator
from keras_mtl.decoding.model_kinds import ModelKind, model_kind, not_usable
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.scoring import TextScorer, engine_scores
from keras_mtl.decoding.text_translator import TextTranslator
from keras_mtl.engine import NativeError, library
from keras_mtl.errors import InputError, nearest
from keras_mtl.messages import to_stderr

if TYPE_CHECKING:
    from keras_mtl.data.vocabulary import Vocabulary
    from keras_mtl.decoding.saved_model_translator import SavedModelTranslator

BACKENDS = ("auto", "native", "tf")
_SAVED_MODELS = (ModelKind.PORTABLE, ModelKind.NATIVE)


def choose_backend(
    requested: str, log: Callable[[str], None] | None = None, *, only_tensorflow: str = ""
) -> str:
    """Resolves `auto` to `native` if the C++ core loads and supports the model, else to `tf`.

    Args:
        requested: one of `BACKENDS`.
        log: function that receives a line if `auto` selects `tf`; default prints it on stderr.
        only_tensorflow: the reason why the engine does not support the model, or "".

    Raises:
        InputError: the backend is unknown, or `native` was requested but does not support the
            model.
        NativeError: `native` was requested but cannot be loaded.
    """
    if requested not in BACKENDS:
        raise InputError(f"backend={requested!r} is unknown{nearest(requested, BACKENDS)}")
    if requested == "tf":
        return requested
    if only_tensorflow:
        if requested == "native":
            raise InputError(f"backend=native: {only_tensorflow}. Use backend tf or auto")
        (log or to_stderr)(f"decoding with TensorFlow: {only_tensorflow}")
        return "tf"
    try:
        library.core()
    except NativeError as error:
        if requested == "native":
            raise
        (log or to_stderr)(f"decoding with TensorFlow: {error}")
        return "tf"
    return "native"


def check_compute_type(backend: str, compute_type: str | None) -> None:
    """Raises InputError if int8 is requested from TensorFlow."""
    if backend == "tf" and compute_type not in (None, "float32"):
        raise InputError(f"compute_type={compute_type}: backend tf supports only float32")


def load_translator(
    path: str | os.PathLike[str],
    options: Mapping[str, object] | None = None,
    *,
    backend: str = "auto",
    compute_type: str | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
    on_long_line: str = "error",
    checkpoint: str | os.PathLike[str] | None = None,
) -> "TextTranslator | SavedModelTranslator":
    """Loads a model directory, an engine file or an exported model to translate with it.

    Args:
        path: the model directory, engine file or exported SavedModel.
        options: mapping of the beam-search options that differ from the model's own.
        backend: `native` (the engine), `tf` (TensorFlow), or `auto`: `native` if it can be loaded
            and supports the model, else `tf`.
        compute_type: type of the engine's matrix products, `float32` or `int8`; default the type of
            an engine file's weights, `float32` for a model directory.
        workers: threads of the engine; default one per processor available to this process.
        batch_size: lines per batch, >= 1.
        on_long_line: see `TextTranslator`.
        checkpoint: see `Translator.from_model_dir`.

    Returns:
        An object with the methods `translate(lines, task)` and `hypotheses(lines, task)`.

    Raises:
        InputError: an argument is invalid for this kind of model.
        CheckpointError: the model directory cannot be used.
        ExportError: the exported model or engine file cannot be used.
        NativeError: the engine is required but cannot be loaded.

    Example:
        ```python
        import keras_mtl

        translator = keras_mtl.load_translator("runs/demo", {"beam_size": 8})
        print(translator.translate(["two trees"], "en-fr"))
        ```
    """
    kind = _check_kind(path, "a model directory, an exported SavedModel or an engine file")
    if kind is ModelKind.ENGINE_FILE:
        _check_engine_file(path, backend, checkpoint)
        return EngineTranslator(
            path,
            options,
            batch_size=batch_size or 64,
            on_long_line=on_long_line,
            workers=workers,
            compute_type=compute_type or "auto",
        )
    if kind in _SAVED_MODELS:
        fixed = {
            "checkpoint": checkpoint,
            "compute_type": compute_type,
            "workers": workers,
            "backend": None if backend == "auto" else backend,
        }
        given = [name for name, value in fixed.items() if value is not None]
        if given:
            raise InputError(
                f"{path} is an exported model, which has no {', '.join(given)}. Omit it, or use "
                "the model directory"
            )
        from keras_mtl.decoding.saved_model_translator import SavedModelTranslator

        return SavedModelTranslator(
            path, options, batch_size=batch_size or 64, on_long_line=on_long_line
        )
    return translator_of_model_dir(
        path,
        options,
        backend=backend,
        compute_type=compute_type,
        workers=workers,
        batch_size=batch_size,
        on_long_line=on_long_line,
        checkpoint=checkpoint,
    )


def translator_of_model_dir(
    model_dir: str | os.PathLike[str],
    options: Mapping[str, object] | None = None,
    *,
    backend: str = "auto",
    compute_type: str | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
    on_long_line: str = "error",
    checkpoint: str | os.PathLike[str] | None = None,
) -> TextTranslator:
    """Loads a model directory; the arguments are those of `load_translator`."""
    chosen = choose_backend(backend, only_tensorflow=saved_only_tensorflow(model_dir))
    check_compute_type(chosen, compute_type)
    from keras_mtl.decoding.loading import load_model

    loaded = load_model(model_dir, checkpoint)
    beam_options = loaded.options.replace(**(options or {}))
    return make_translator(
        loaded.model,
        loaded.vocabulary,
        loaded.tasks.tasks,
        beam_options,
        backend=chosen,
        compute_type=compute_type or "float32",
        workers=workers,
        batch_size=loaded.batch_size if batch_size is None else batch_size,
        on_long_line=on_long_line,
    )


def load_scorer(
    path: str | os.PathLike[str],
    *,
    backend: str = "auto",
    compute_type: str | None = None,
    workers: int | None = None,
    batch_size: int = 64,
    checkpoint: str | os.PathLike[str] | None = None,
) -> TextScorer:
    """Loads a model directory or an engine file to score translations with it.

    Args:
        path: the model directory or engine file.
        backend: see `load_translator`.
        compute_type: see `load_translator`.
        workers: see `load_translator`.
        batch_size: sentences per batch, >= 1.
        checkpoint: the checkpoint of a model directory to read; see `Translator.from_model_dir`.

    Raises:
        InputError: an argument is invalid for this kind of model.
        CheckpointError: the model directory cannot be used.
        ExportError: the engine file cannot be used.
        NativeError: the engine is required but cannot be loaded.

    Example:
        ```python
        import keras_mtl

        scorer = keras_mtl.load_scorer("runs/demo")
        (score,) = scorer.score(["two trees"], ["deux arbres"], "en-fr")
        ```
    """
    kind = _check_kind(path, "a model directory or an engine file")
    if kind is ModelKind.ENGINE_FILE:
        _check_engine_file(path, backend, checkpoint)
        engine = open_engine(path, workers, compute_type or "auto")
        text = TextSide.read(engine.file)
        longest = engine.hyperparameters["max_length"]
        return TextScorer(engine_scores(engine, batch_size), text.vocabulary, text.tasks, longest)
    if kind in _SAVED_MODELS:
        raise InputError(
            f"{path} is an exported SavedModel, which cannot score translations. Give the model "
            "directory or an engine file"
        )
    chosen = choose_backend(backend, only_tensorflow=saved_only_tensorflow(path))
    check_compute_type(chosen, compute_type)
    from keras_mtl.decoding.loading import load_model

    loaded = load_model(path, checkpoint)
    model, vocabulary, tasks = loaded.model, loaded.vocabulary, loaded.tasks.tasks
    if chosen == "native":
        search = ModelEngineSearch(
            model, vocabulary, tasks, loaded.options, compute_type or "float32", workers
        )
        score = engine_scores(search.engine, batch_size)
    else:
        from keras_mtl.decoding.model_scorer import model_scores

        score = model_scores(model, batch_size)
    return TextScorer(score, vocabulary, tasks, model.max_length)


def _check_kind(path: str | os.PathLike[str], wanted: str) -> ModelKind:
    # Check this before TensorFlow is imported, which takes seconds and may fail.
    kind = model_kind(path)
    if kind not in (ModelKind.ENGINE_FILE, ModelKind.MODEL_DIR, *_SAVED_MODELS):
        raise InputError(not_usable(path, wanted))
    return kind


def _check_engine_file(path: Any, backend: str, checkpoint: Any) -> None:
    if checkpoint is not None:
        raise InputError(f"{path} is an engine file, which has no checkpoints. Omit --checkpoint")
    if backend == "tf":
        raise InputError(f"{path} is an engine file: backend tf cannot read it. Use native")


def make_translator(
    model: Any,
    vocabulary: "Vocabulary",
    tasks: Sequence[Any],
    options: BeamOptions,
    *,
    backend: str,
    compute_type: str = "float32",
    workers: int | None = None,
    batch_size: int = 64,
    on_long_line: str = "error",
) -> TextTranslator:
    """Makes a translator for a model in memory.

    Args:
        model: a built `keras_mtl.models.Transformer`.
        vocabulary: the model's vocabulary.
        tasks: the model's tasks.
        options: beam-search options.
        backend: `native` or `tf`.
        compute_type: `float32` or `int8`; used only by `native`.
        workers: number of threads; used only by `native`.
        batch_size: lines per batch, >= 1.
        on_long_line: see `TextTranslator`.

    Raises:
        InputError: an argument is out of range.
    """
    if backend == "native":
        return TextTranslator(
            ModelEngineSearch(model, vocabulary, tasks, options, compute_type, workers),
            vocabulary,
            tasks,
            batch_size=batch_size,
            on_long_line=on_long_line,
        )
    from keras_mtl.decoding.translator import Translator

    return Translator(
        model, vocabulary, tasks, options, batch_size=batch_size, on_long_line=on_long_line
    )
