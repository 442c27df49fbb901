"""The model file of the C++ engine: weights, vocabulary and tasks of a translation model."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import keras_mtl
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.engine.model_file import MAGIC, Value, write_model_file
from keras_mtl.errors import ExportError, nearest
from keras_mtl.export.model_arrays import quantize_rows, transformer_arrays

WEIGHT_TYPES = ("float32", "int8")


def export_engine_file(
    model: Any,
    vocabulary: Vocabulary,
    tasks: Sequence[TranslationTask],
    output: str | os.PathLike[str],
    *,
    weight_type: str = "float32",
    options: BeamOptions | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes the model file of a model in memory.

    Args:
      model: a built ``keras_mtl.models.Transformer``.
      vocabulary: the model's.
      tasks: the model's.
      output: the file to make.
      weight_type: ``float32``, or ``int8``: matrices are quantized by output channel (see
        ``quantize_rows``), biases, normalizations and positions stay float32.
      options: beam search of whoever translates text with the file and asks for no other.
      overwrite: whether a file of this name may be replaced.

    Returns:
      The file.

    Raises:
      ExportError: an argument does not fit, a weight is not finite, the file exists, or it cannot
        be written.
    """
    path = Path(output)
    check_free_file(path, overwrite)
    if weight_type not in WEIGHT_TYPES:
        raise ExportError(f"weight_type={weight_type!r}{nearest(weight_type, WEIGHT_TYPES)}")
    if vocabulary.size != model.vocabulary_size:
        raise ExportError(
            f"the vocabulary has {vocabulary.size} tokens and the model {model.vocabulary_size}: "
            "give the vocabulary that the model was trained with"
        )
    tensors: dict[str, np.ndarray] = {}
    for name, array in transformer_arrays(model).items():
        if weight_type == "int8" and name.endswith(".weight"):
            tensors[name], scales = quantize_rows(array)
            tensors[f"{name.removesuffix('.weight')}.scale"] = scales
        else:
            tensors[name] = array
    tensors["vocabulary"] = np.frombuffer(vocabulary.tokenizer_bytes, np.uint8)
    hyperparameters = _hyperparameters(model, vocabulary, tasks, weight_type)
    if options is not None:
        hyperparameters["decoding"] = json.dumps(dataclasses.asdict(options))
    return write_model_file(path, hyperparameters, tensors)


def check_free_file(path: Path, overwrite: bool) -> None:
    """Raises ExportError if something is in the way that must not be replaced."""
    if path.is_dir():
        raise ExportError(f"{path} is a directory; give the name of a file")
    if not path.exists():
        return
    if not overwrite:
        raise ExportError(f"{path} exists; give --overwrite to replace it, or another output")
    try:
        with open(path, "rb") as file:
            is_model = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror})") from error
    if not is_model:
        raise ExportError(
            f"{path} exists and is not an engine file, so --overwrite does not replace it; give "
            "another output"
        )


def _hyperparameters(
    model: Any, vocabulary: Vocabulary, tasks: Sequence[TranslationTask], weight_type: str
) -> dict[str, Value]:
    from keras_mtl.decoding.not_text import not_text_ids

    config = model.get_config()
    norm = model.encoder.final_norm
    return {
        "producer": f"keras_mtl {keras_mtl.__version__}",
        "architecture": "transformer",
        "weight_type": weight_type,
        **{
            name: int(config[name])
            for name in (
                "vocabulary_size",
                "hidden_dim",
                "num_heads",
                "intermediate_dim",
                "encoder_layers",
                "decoder_layers",
                "max_length",
                "tie_embeddings",
            )
        },
        "activation": config["activation"],
        "layer_norm_epsilon": float(norm.epsilon),
        "decoders": [name or "all" for name in model.decoder_names or ("",)],
        "pad_id": vocabulary.pad_id,
        "bos_id": vocabulary.bos_id,
        "eos_id": vocabulary.eos_id,
        "unk_id": vocabulary.unk_id,
        "not_text": not_text_ids(vocabulary),
        "vocabulary_hash": vocabulary.hash,
        "task_names": [task.name for task in tasks],
        "task_sources": [task.source for task in tasks],
        "task_targets": [task.target for task in tasks],
        "task_tags": [vocabulary.tag_id(task.target) for task in tasks],
        "task_decoders": [task.decoder for task in tasks],
    }
