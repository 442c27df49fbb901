"""Export to CTranslate2, for production systems that use it and for comparison with our search."""

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mtl.configuration import quantization
from keras_mtl.configuration.sublayers import (
    ROTARY_WAVELENGTH,
    not_in_ctranslate2,
    only_tensorflow,
)
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.engine.arrays import check_standard, norm_epsilon, transformer_arrays
from keras_mtl.engine.quantized_layers import check_weights
from keras_mtl.errors import ExportError, nearest
from keras_mtl.files import replacing_directory

QUANTIZATIONS = ("float32", "int8", "int8_float32", "float16", "int16")
TASKS_FILE = "keras_mtl.json"
SENTENCEPIECE_FILE = "sentencepiece.model"
SOURCE_SENTENCEPIECE_FILE = "source_sentencepiece.model"
_SPECIALS = ("unk_id", "bos_id", "eos_id")


def export_ctranslate2(
    model: Any,
    vocabulary: Vocabulary,
    tasks: Sequence[TranslationTask],
    output: str | os.PathLike[str],
    *,
    weight_type: str = "float32",
    overwrite: bool = False,
) -> Path:
    """Writes a model directory for CTranslate2.

    A CTranslate2 model has one decoder, so for a model with several decoders `output` contains a
    directory for each target language. In addition to the files of CTranslate2, a directory
    contains `sentencepiece.model` and `keras_mtl.json`: the tasks with the tag that begins a
    source, and the tokens that are not text (`suppress`; pass them to CTranslate2 as
    `suppress_sequences`). If sources have their own vocabulary, `source_sentencepiece.model` is
    for sources, and `sentencepiece.model` for translations.

    Args:
        model: a built `keras_mtl.models.Transformer`.
        vocabulary: the vocabulary of the model.
        tasks: the tasks of the model.
        output: the directory to create.
        weight_type: float32, int8, int8_float32, float16 or int16.
        overwrite: whether to replace an existing directory of a CTranslate2 model.

    Returns:
        The directory.

    Raises:
        ExportError: CTranslate2 is not installed, the model has adapters or clips the inputs of
            layers, the directory exists, or it cannot be written.
    """
    check_adapters(len(model.adapter_sets))
    if weight_type not in QUANTIZATIONS:
        raise ExportError(f"weight_type={weight_type!r}{nearest(weight_type, QUANTIZATIONS)}")
    path = Path(output)
    check_output(path, overwrite)
    check_standard(only_tensorflow(model))
    check_architecture(not_in_ctranslate2(model))
    domains = quantization.of_mapping(model.get_config().get("quantization")).domains
    check_weights(quantization.not_in_ctranslate2(domains, weight_type))
    tokens, source_tokens = _pieces(vocabulary), _pieces(vocabulary.source)
    specials = {name: getattr(vocabulary, name) for name in _SPECIALS}
    several = len(model.decoders) > 1
    try:
        with replacing_directory(path) as root:
            for index in range(len(model.decoders)):
                directory = root / model.decoder_names[index] if several else root
                write_directory(
                    model,
                    index,
                    tokens,
                    directory,
                    weight_type=weight_type,
                    source_tokens=source_tokens,
                    **specials,
                )
                (directory / SENTENCEPIECE_FILE).write_bytes(vocabulary.tokenizer_bytes)
                if vocabulary.has_source:
                    own_file = directory / SOURCE_SENTENCEPIECE_FILE
                    own_file.write_bytes(vocabulary.source.tokenizer_bytes)
                own = [task for task in tasks if task.decoder == index]
                (directory / TASKS_FILE).write_text(_description(vocabulary, own), encoding="utf-8")
    except OSError as error:
        raise ExportError(
            f"{path} could not be written: {error.strerror}. Free disk space or choose another "
            "output"
        ) from error
    return path


def write_directory(
    model: Any,
    decoder: int,
    tokens: Sequence[str],
    directory: Path,
    *,
    unk_id: int = 3,
    bos_id: int = 1,
    eos_id: int = 2,
    weight_type: str = "float32",
    source_tokens: Sequence[str] | None = None,
) -> None:
    """Writes the CTranslate2 files for one decoder.

    Args:
        model: a built `keras_mtl.models.Transformer`.
        decoder: index of the decoder.
        tokens: text of each id of targets, all different.
        directory: created if missing.
        unk_id: id of unknown tokens.
        bos_id: id that starts a target.
        eos_id: id that ends source and target. CTranslate2 appends it to a source itself.
        weight_type: see `export_ctranslate2`.
        source_tokens: text of each id of sources; None means `tokens`.
    """
    spec = _specification(model.get_config())
    arrays = transformer_arrays(model)
    tied = model.tie_embeddings
    spec.encoder.embeddings[0].weight = arrays[_embedding("source", tied)]
    spec.decoder.embeddings.weight = arrays[_embedding("target", tied)]
    for side, stack in (("source", spec.encoder), ("target", spec.decoder)):
        stack.scale_embeddings = True  # By the square root of the width, as in our model.
        _positions(stack, model, arrays.get(f"{side}_positions"))
    for i, layer in enumerate(spec.encoder.layer):
        name = f"encoder.layer.{i}"
        _attention(layer.self_attention, arrays, f"{name}.attention", ["qkv", "output"])
        _feed_forward(layer.ffn, arrays, name)
    _final_norm(spec.encoder, arrays, "encoder")
    for i, layer in enumerate(spec.decoder.layer):
        name = f"decoder.{decoder}.layer.{i}"
        _attention(layer.self_attention, arrays, f"{name}.self_attention", ["qkv", "output"])
        linears = ["query", "key_value", "output"]
        _attention(layer.attention, arrays, f"{name}.cross_attention", linears)
        _feed_forward(layer.ffn, arrays, name)
    _final_norm(spec.decoder, arrays, f"decoder.{decoder}")
    projection = f"decoder.{decoder}.projection.weight"
    if model.tie_projection:
        projection = _embedding("target", tied)
    spec.decoder.projection.weight = arrays[projection]
    spec.register_source_vocabulary(list(source_tokens or tokens))
    spec.register_target_vocabulary(list(tokens))
    spec.config.unk_token = tokens[unk_id]
    spec.config.bos_token = tokens[bos_id]
    spec.config.eos_token = tokens[eos_id]
    spec.config.decoder_start_token = tokens[bos_id]
    spec.config.add_source_bos = False
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = norm_epsilon(model)
    spec.validate()
    spec.optimize(quantization=None if weight_type == "float32" else weight_type)
    directory.mkdir(parents=True, exist_ok=True)
    spec.save(str(directory))


def _specification(config: Mapping[str, Any]) -> Any:
    """Returns the empty specification of a model of these arguments."""
    specs = _package().specs
    common = importlib.import_module("ctranslate2.specs.common_spec")
    options: dict[str, Any] = {
        "pre_norm": config["norm_position"] == "pre",
        "activation": {
            "relu": common.Activation.RELU,
            "gelu": common.Activation.GELU,
            "silu": common.Activation.SWISH,
        }[config["activation"]],
        "ffn_glu": config["feed_forward"] == "gated",
        "rms_norm": config["norm"] == "rms_norm",
    }
    if config["positions"] == "rotary":
        # All channels of a head, in pairs of the first and the second half.
        options |= {"rotary_dim": 0, "rotary_interleave": False, "rotary_base": ROTARY_WAVELENGTH}
    heads = config["num_heads"]
    try:
        encoder = specs.TransformerEncoderSpec(config["encoder_layers"], heads, **options)
        decoder = specs.TransformerDecoderSpec(config["decoder_layers"], heads, **options)
    except TypeError as error:
        raise ExportError(
            f"this version of CTranslate2 does not support the model ({error}). Install a newer "
            "one: pip install -U 'ctranslate2>=4.6,<5'"
        ) from error
    return specs.TransformerSpec(encoder, decoder)


def check_architecture(reason: str) -> None:
    """Checks that CTranslate2 has all parts of a model.

    Args:
        reason: why it does not, from `keras_mtl.configuration.sublayers`; empty if it does.

    Raises:
        ExportError: it does not.
    """
    if reason:
        raise ExportError(f"{reason}. Export the engine file instead (--format engine)")


def check_output(path: Path, overwrite: bool) -> None:
    """Checks that CTranslate2 is installed and that the output may be written.

    Raises:
        ExportError: CTranslate2 is missing, or the output exists and must not be replaced.
    """
    _package()
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise ExportError(f"{path} exists. Give --overwrite to replace it, or another output")
    if not _is_ours(path):
        raise ExportError(
            f"{path} exists and is not a model exported for CTranslate2, so --overwrite does not "
            "replace it. Give another output"
        )


def _is_ours(path: Path) -> bool:
    return any((directory / TASKS_FILE).is_file() for directory in (path, *path.glob("*")))


def _package() -> Any:
    try:
        return importlib.import_module("ctranslate2")
    except ImportError as error:
        raise ExportError(
            f"the package ctranslate2 cannot be imported ({error}). Install it: "
            "pip install 'ctranslate2>=4.6,<5'"
        ) from error


def check_adapters(count: int) -> None:
    """Checks that a model has no adapters, which CTranslate2 cannot select by task.

    Args:
        count: number of sets of adapters.

    Raises:
        ExportError: the model has some.
    """
    if count:
        raise ExportError(
            "task.model.adapters is not empty, and CTranslate2 has no adapters. Use --format "
            "engine, saved_model or saved_model_native"
        )


def _description(vocabulary: Vocabulary, tasks: Sequence[TranslationTask]) -> str:
    from keras_mtl.decoding.suppressed import suppressed_ids

    entries = [
        {
            "name": task.name,
            "source": task.source,
            "target": task.target,
            "tag": vocabulary.source.piece(vocabulary.source.tag_id(task.target)),
        }
        for task in tasks
    ]
    suppress = [vocabulary.piece(token) for token in suppressed_ids(vocabulary)]
    return json.dumps({"tasks": entries, "suppress": suppress}, ensure_ascii=False, indent=1)


def _pieces(vocabulary: Vocabulary) -> list[str]:
    return [vocabulary.piece(i) for i in range(vocabulary.size)]


def _embedding(side: str, tied: bool) -> str:
    return "embedding.weight" if tied else f"{side}_embedding.weight"


def _norm(spec: Any, arrays: dict[str, Any], name: str) -> None:
    spec.gamma = arrays[f"{name}.gamma"]
    if f"{name}.beta" in arrays:
        spec.beta = arrays[f"{name}.beta"]


def _final_norm(stack: Any, arrays: dict[str, Any], name: str) -> None:
    if f"{name}.final_norm.gamma" in arrays:  # Only with pre-norm.
        _norm(stack.layer_norm, arrays, f"{name}.final_norm")


def _positions(stack: Any, model: Any, table: Any) -> None:
    if table is not None:
        stack.position_encodings.encodings = table
    elif model.get_config()["positions"] == "none":
        # Without a table, CTranslate2 would add sinusoids.
        zeros = np.zeros([model.max_length, model.hidden_dim], np.float32)
        stack.position_encodings.encodings = zeros


def _linear(spec: Any, arrays: dict[str, Any], name: str) -> None:
    spec.weight = arrays[f"{name}.weight"]
    spec.bias = arrays[f"{name}.bias"]


def _attention(spec: Any, arrays: dict[str, Any], name: str, linears: Sequence[str]) -> None:
    _norm(spec.layer_norm, arrays, f"{name}_norm")
    for linear, part in zip(spec.linear, linears, strict=True):
        _linear(linear, arrays, f"{name}.{part}")


def _feed_forward(spec: Any, arrays: dict[str, Any], name: str) -> None:
    _norm(spec.layer_norm, arrays, f"{name}.feed_forward_norm")
    if f"{name}.feed_forward.gate.weight" in arrays:
        _linear(spec.linear_0, arrays, f"{name}.feed_forward.gate")
        _linear(spec.linear_0_noact, arrays, f"{name}.feed_forward.value")
    else:
        _linear(spec.linear_0, arrays, f"{name}.feed_forward.intermediate")
    _linear(spec.linear_1, arrays, f"{name}.feed_forward.output")
