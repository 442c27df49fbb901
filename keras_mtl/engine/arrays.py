"""The weights of a Transformer as named NumPy arrays, for formats other than TensorFlow's."""

import re
from typing import Any

import numpy as np

from keras_mtl.configuration.sublayers import only_tensorflow
from keras_mtl.engine.adapter_arrays import adapter_variable, add_adapters, sets_of
from keras_mtl.engine.model_file import INPUT_RANGE, SOURCE_VOCABULARY
from keras_mtl.errors import ExportError

_NO_WEIGHTS = ("vocabulary", SOURCE_VOCABULARY, "rotary_positions")


def transformer_arrays(model: Any) -> dict[str, np.ndarray]:
    """Returns all weights of a model.

    Args:
        model: a built `keras_mtl.models.Transformer`.

    Returns:
        float32 arrays by name, in the order of the model. A matrix `*.weight` is `[out, in]`, the
        transpose of the Keras kernel. Names follow the layers: `embedding.weight` if embeddings are
        tied, otherwise `source_embedding.weight` and `target_embedding.weight`; the tables of
        `Transformer.position_tables`; then
        `encoder.layer.{i}.*`, `encoder.final_norm.*`, `decoder.{j}.layer.{i}.*`,
        `decoder.{j}.final_norm.*` and, if it is not tied to a table,
        `decoder.{j}.projection.weight`.
        `keras_mtl.engine.adapter_arrays` describes the weights of adapters.

    Raises:
        ExportError: a weight is not finite, which int8 and softmax would hide, or the model has
            sub-layers from plug-ins.
    """
    check_standard(only_tensorflow(model))
    config = model.get_config()
    arrays: dict[str, np.ndarray] = {}
    if model.tie_embeddings:
        arrays["embedding.weight"] = _array(model.source_embedding.embeddings)
    else:
        arrays["source_embedding.weight"] = _array(model.source_embedding.embeddings)
        arrays["target_embedding.weight"] = _array(model.target_embedding.embeddings)
    arrays |= {name: _array(table) for name, table in model.position_tables().items()}
    for i, layer in enumerate(model.encoder.layers):
        name = f"encoder.layer.{i}"
        _norm(arrays, f"{name}.attention_norm", layer.attention_norm)
        _dense(arrays, f"{name}.attention.qkv", layer.attention.qkv)
        _dense(arrays, f"{name}.attention.output", layer.attention.output_projection)
        _feed_forward(arrays, name, layer)
    add_adapters(arrays, "encoder", model.encoder, model.adapter_sets)
    if config["transparent_attention"]:
        scores = model.encoder.transparent_attention.layer_scores
        arrays["encoder.transparent_attention.layer_scores"] = _array(scores)
        _norm(arrays, "encoder.memory_norm", model.encoder.final_norm)
    else:
        _norm(arrays, "encoder.final_norm", model.encoder.final_norm)
    for j, decoder in enumerate(model.decoders):
        for i, layer in enumerate(decoder.layers):
            name = f"decoder.{j}.layer.{i}"
            own, cross = layer.self_attention, layer.cross_attention
            _norm(arrays, f"{name}.self_attention_norm", layer.self_attention_norm)
            _dense(arrays, f"{name}.self_attention.qkv", own.qkv)
            _dense(arrays, f"{name}.self_attention.output", own.output_projection)
            _norm(arrays, f"{name}.cross_attention_norm", layer.cross_attention_norm)
            _dense(arrays, f"{name}.cross_attention.query", cross.query)
            _dense(arrays, f"{name}.cross_attention.key_value", cross.key_value)
            _dense(arrays, f"{name}.cross_attention.output", cross.output_projection)
            _feed_forward(arrays, name, layer)
        add_adapters(arrays, f"decoder.{j}", decoder, model.adapter_sets)
        _norm(arrays, f"decoder.{j}.final_norm", decoder.final_norm)
        if decoder.projection is not None:
            _dense(arrays, f"decoder.{j}.projection", decoder.projection)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ExportError(
                f"weight {name} contains a value that is not finite: training has diverged. "
                "Export an earlier checkpoint"
            )
    return arrays


def norm_epsilon(model: Any) -> float:
    """Returns the `epsilon` of the normalizations of a model, which is the same for all."""
    norms = [model.encoder.final_norm]
    norms += [layer.attention_norm for layer in model.encoder.layers]
    norms += [layer.feed_forward_norm for stack in model.decoders for layer in stack.layers]
    return float(next(norm for norm in norms if norm is not None).epsilon)


def variable_arrays(file: Any) -> dict[str, np.ndarray]:
    """Returns the weights of an engine file by the names of the variables of a `Transformer`.

    Args:
        file: from `keras_mtl.engine.open_model_file`.

    Returns:
        float32 arrays, in the layout of Keras, by the path of the variable without the name of the
        model, such as `encoder/layer_0/attention/qkv/kernel`. int8 weights are restored to within
        half a scale.
    """
    decoders = [
        "decoder" if name == "all" else f"decoder_{name}"
        for name in file.hyperparameters["decoders"]
    ]
    sets = sets_of(file.hyperparameters)
    arrays = {}
    for name in file.tensor_names:
        if name in _NO_WEIGHTS or name.endswith((".scale", INPUT_RANGE)):
            continue
        array = np.array(file.tensor(name))
        if array.dtype == np.int8:
            scale = np.asarray(file.tensor(f"{name.removesuffix('.weight')}.scale"))
            array = array.astype(np.float32) * scale[:, None]
        if own := adapter_variable(name, array, sets, decoders):
            arrays[own[0]] = own[1]
            continue
        path = re.sub(r"\.layer\.(\d+)", r"/layer_\1", name)
        path = re.sub(r"^decoder\.(\d+)", lambda match: decoders[int(match[1])], path)
        path = path.replace(".", "/")
        if path.endswith("_positions"):
            path += "/positions"
        elif path.endswith("embedding/weight"):
            path = path.removesuffix("weight") + "embeddings"
        elif path.endswith("/weight"):
            path, array = path.removesuffix("weight") + "kernel", np.ascontiguousarray(array.T)
        arrays[path] = array
    return arrays


def check_standard(only_tensorflow: str) -> None:
    """Checks that a model has only the built-in sub-layers, which these arrays can describe.

    Args:
        only_tensorflow: why only TensorFlow can run the model, from
            `keras_mtl.configuration.sublayers.only_tensorflow`. Empty if other runtimes can, too.

    Raises:
        ExportError: the model has other sub-layers.
    """
    if only_tensorflow:
        raise ExportError(
            f"{only_tensorflow}. Export a SavedModel instead (--format saved_model or "
            "saved_model_native)"
        )


def quantize_rows(matrix: np.ndarray, limit: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Quantizes a matrix to int8, with one scale for each row (output channel).

    Args:
        matrix: float32 `[out, in]`, finite.
        limit: the magnitude that becomes 127, as do larger ones; None takes absmax of each row.

    Returns:
        The int8 values `[out, in]` in [-127, 127], and the float32 scales `[out]`: absmax / 127, or
        1 for a row of zeros. `values * scales[:, None]` restores the matrix, each entry to within
        half a scale. The values are `matrix * (127 / absmax)` in float32, rounded half to even: bit
        for bit the values that the engine computes from a float32 file, and from activations.

    Reference: `keras.quantizers.abs_max_quantize`, which also multiplies by 127 / absmax. It adds
    1e-7 to absmax, so its values differ if absmax is below about 1e-4.
    """
    largest = np.abs(matrix).max(axis=1).astype(np.float32)
    if limit is not None:
        largest = np.full_like(largest, limit)
        matrix = np.clip(matrix, -largest[:, None], largest[:, None])
    zero = largest < np.float32(1e-30)  # As in the engine, so that 127 / absmax is finite.
    largest = np.where(zero, np.float32(127), largest)
    values = np.rint(matrix * (np.float32(127) / largest)[:, None])
    return np.where(zero[:, None], 0, values).astype(np.int8), largest / np.float32(127)


def _array(value: Any) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(value), np.float32)


def _norm(arrays: dict[str, np.ndarray], name: str, layer: Any) -> None:
    if layer is None:  # Post-norm: there is no final norm.
        return
    arrays[f"{name}.gamma"] = _array(layer.gamma)
    if hasattr(layer, "beta"):
        arrays[f"{name}.beta"] = _array(layer.beta)


def _dense(arrays: dict[str, np.ndarray], name: str, layer: Any) -> None:
    arrays[f"{name}.weight"] = _array(np.asarray(layer.kernel).T)
    if layer.use_bias:
        arrays[f"{name}.bias"] = _array(layer.bias)


def _feed_forward(arrays: dict[str, np.ndarray], name: str, layer: Any) -> None:
    _norm(arrays, f"{name}.feed_forward_norm", layer.feed_forward_norm)
    block = layer.feed_forward
    if hasattr(block, "gate"):
        _dense(arrays, f"{name}.feed_forward.gate", block.gate)
        _dense(arrays, f"{name}.feed_forward.value", block.value)
    else:
        _dense(arrays, f"{name}.feed_forward.intermediate", block.intermediate)
    _dense(arrays, f"{name}.feed_forward.output", block.output_projection)
