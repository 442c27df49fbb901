"""Writes and reads the text part of engine files: vocabulary, tasks and options.

Does not import TensorFlow, except that a model to write has already done so.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

import keras_mtl
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.suppressed import suppressed_ids
from keras_mtl.decoding.tasks import TranslationTask, translated
from keras_mtl.engine import write_model_file
from keras_mtl.engine.adapter_arrays import adapter_hyperparameters, sets_of
from keras_mtl.engine.arrays import norm_epsilon, quantize_rows, transformer_arrays
from keras_mtl.engine.model_file import INPUT_RANGE, SOURCE_VOCABULARY, Value
from keras_mtl.engine.quantized_layers import learned_ranges, range_array
from keras_mtl.errors import ExportError, nearest

WEIGHT_TYPES = ("float32", "int8")
PRODUCER = f"keras_mtl {keras_mtl.__version__}"
_SIZES = (
    "hidden_dim",
    "num_heads",
    "intermediate_dim",
    "encoder_layers",
    "decoder_layers",
    "max_length",
    "tie_embeddings",
    "transparent_attention",
)
_NAMES = ("activation", "feed_forward", "norm", "norm_position", "positions")


def write_engine_file(
    model: Any,
    vocabulary: Vocabulary,
    tasks: Sequence[TranslationTask],
    output: str | os.PathLike[str],
    *,
    weight_type: str = "float32",
    options: BeamOptions | None = None,
) -> Path:
    """Writes the engine file of a model in memory; an existing file is replaced.

    Args:
        model: a built `keras_mtl.models.Transformer`.
        vocabulary: the model's vocabulary.
        tasks: the model's tasks; the file has those that translate.
        output: the file to write.
        weight_type: `float32`, or `int8` to quantize matrices by output channel (see
            `quantize_rows`). Biases, normalizations and positions are always float32.
        options: default beam-search options for translators that open the file; None writes none.

    Returns:
        The path of the file.

    Raises:
        ExportError: an argument is invalid, a weight is not finite, the model was trained with a
            quantization that the file cannot hold, or the file cannot be written.
    """
    if weight_type not in WEIGHT_TYPES:
        raise ExportError(f"weight_type={weight_type!r}{nearest(weight_type, WEIGHT_TYPES)}")
    for what, own, size in (
        ("vocabulary", vocabulary, model.vocabulary_size),
        ("vocabulary of sources", vocabulary.source, model.source_vocabulary_size),
    ):
        if own.size != size:
            raise ExportError(
                f"the {what} has {own.size} tokens, but the model has {size}. Give the vocabulary "
                "that was used to train the model"
            )
    tensors = engine_tensors(model, vocabulary, weight_type)
    # The engine requires a task. A file without one that translates only scores, in validation.
    named = translated(tasks) or tasks
    hyperparameters = engine_hyperparameters(model, vocabulary, named, weight_type)
    if options is not None:
        hyperparameters["decoding"] = json.dumps(dataclasses.asdict(options))
    return write_model_file(output, hyperparameters, tensors)


def engine_tensors(model: Any, vocabulary: Vocabulary, weight_type: str) -> dict[str, np.ndarray]:
    """Returns the tensors of the engine file of a model; see `write_engine_file`."""
    tensors = weight_tensors(model, weight_type)
    return tensors | vocabulary_tensors(vocabulary)


def vocabulary_tensors(vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    """Returns the tensors of an engine file that hold its vocabulary."""
    tensors = {"vocabulary": np.frombuffer(vocabulary.tokenizer_bytes, np.uint8)}
    if vocabulary.has_source:
        own = np.frombuffer(vocabulary.source.tokenizer_bytes, np.uint8)
        tensors[SOURCE_VOCABULARY] = own
    return tensors


def vocabulary_of(file: Any) -> Vocabulary:
    """Reads the vocabulary of an open model file.

    Raises:
        DataError: it is damaged.
    """
    source = None
    if SOURCE_VOCABULARY in file.tensor_names:
        source = Vocabulary(np.asarray(file.tensor(SOURCE_VOCABULARY)).tobytes(), file.path)
    return Vocabulary(np.asarray(file.tensor("vocabulary")).tobytes(), file.path, source)


def weight_tensors(model: Any, weight_type: str) -> dict[str, np.ndarray]:
    """Returns the tensors of the engine file of a model without its vocabulary."""
    learned = learned_ranges(model, weight_type)
    tensors: dict[str, np.ndarray] = {}
    for name, array in transformer_arrays(model).items():
        layer = name.removesuffix(".weight")
        if weight_type == "int8" and layer != name:
            tensors[name], scales = quantize_rows(array, learned.weights.get(layer))
            tensors[f"{layer}.scale"] = scales
        else:
            tensors[name] = array
        if layer in learned.inputs and layer != name:
            tensors[layer + INPUT_RANGE] = range_array(learned.inputs[layer])
    return tensors


@dataclasses.dataclass(frozen=True)
class TextSide:
    """The text part of an engine file.

    Attributes:
        vocabulary: the model's vocabulary.
        tasks: the model's tasks.
        options: the file's beam-search options; None if it has none.
    """

    vocabulary: Vocabulary
    tasks: tuple[TranslationTask, ...]
    options: BeamOptions | None

    @classmethod
    def read(cls, file: Any) -> Self:
        """Reads the text part of an open model file.

        Args:
            file: from `keras_mtl.engine.open_model_file`, or `Engine.file`.

        Raises:
            ExportError: vocabulary or tasks are missing or damaged.
        """
        about = file.hyperparameters
        try:
            vocabulary = vocabulary_of(file)
            columns = ("names", "sources", "targets", "decoders")
            rows = zip(*(about[f"task_{column}"] for column in columns), strict=True)
            counts = [len(each.members) for each in sets_of(about)]
            sets = list(zip(about.get("adapter_per", []), counts, strict=True))
            tasks = tuple(
                TranslationTask.of_route(name, source, target, route, sets)
                for name, source, target, route in rows
            )
        except (KeyError, ValueError) as error:
            raise ExportError(
                f"{file.path} does not contain a vocabulary and tasks ({error}). Write the file "
                "with `keras-mtl export --format engine`"
            ) from error
        if "decoding" not in about:
            return cls(vocabulary, tasks, None)
        try:
            return cls(vocabulary, tasks, BeamOptions.from_mapping(json.loads(about["decoding"])))
        except (ValueError, TypeError) as error:
            raise ExportError(
                f"{file.path}: hyperparameter decoding: {error}. Write the file again with "
                "`keras-mtl export --format engine`"
            ) from error


def engine_hyperparameters(
    model: Any, vocabulary: Vocabulary, tasks: Sequence[TranslationTask], weight_type: str
) -> dict[str, Value]:
    """Returns the hyperparameters of the engine file of a model; see `write_engine_file`."""
    config = model.get_config()
    return {
        "producer": PRODUCER,
        "architecture": "transformer",
        "weight_type": weight_type,
        **{name: int(config[name]) for name in _SIZES},
        **({"tie_projection": 1} if model.tie_projection and not model.tie_embeddings else {}),
        **{name: config[name] for name in _NAMES},
        "layer_norm_epsilon": norm_epsilon(model),
        "decoders": [name or "all" for name in model.decoder_names or ("",)],
        **text_hyperparameters(vocabulary, tasks),
        **adapter_hyperparameters(
            model.adapter_sets, [choice.per for choice in tasks[0].adapters] if tasks else []
        ),
    }


def text_hyperparameters(
    vocabulary: Vocabulary, tasks: Sequence[TranslationTask]
) -> dict[str, Value]:
    """Returns the hyperparameters of an engine file about its vocabulary and its tasks."""
    own = {"source_vocabulary_size": vocabulary.source.size} if vocabulary.has_source else {}
    return {
        "vocabulary_size": vocabulary.size,
        **own,
        "pad_id": vocabulary.pad_id,
        "bos_id": vocabulary.bos_id,
        "eos_id": vocabulary.eos_id,
        "unk_id": vocabulary.unk_id,
        "not_text": suppressed_ids(vocabulary),
        "vocabulary_hash": vocabulary.hash,
        "task_names": [task.name for task in tasks],
        "task_sources": [task.source for task in tasks],
        "task_targets": [task.target for task in tasks],
        "task_tags": [vocabulary.source.tag_id(task.target) for task in tasks],
        "task_decoders": [task.route for task in tasks],
    }
