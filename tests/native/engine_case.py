"""Model files of small models, and sentences, for tests of the engine."""

import numpy as np

from keras_mtl.engine.arrays import quantize_rows
from keras_mtl.engine.model_file import write_model_file

EOS, TAG = 2, 3
SIZES = {
    "vocabulary_size": 131,
    "hidden_dim": 36,
    "num_heads": 3,
    "intermediate_dim": 50,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "max_length": 24,
    "tie_embeddings": True,
    "activation": "relu",
}
# Fields that files of older versions lack, with the values that they mean there.
SUBLAYERS = {
    "feed_forward": "standard",
    "norm": "layer_norm",
    "norm_position": "pre",
    "positions": "sinusoidal",
    "transparent_attention": False,
}


def write_engine_file(path, arrays, sizes, decoders=1, weight_type="float32", epsilon=1e-6):
    """Writes a model file; `arrays` float32 by name, as `transformer_arrays` gives them."""
    tensors = {}
    for name, array in arrays.items():
        if weight_type == "int8" and name.endswith(".weight"):
            tensors[name], tensors[name.replace(".weight", ".scale")] = quantize_rows(array)
        else:
            tensors[name] = array
    tensors["vocabulary"] = np.zeros([1], np.uint8)
    names = [f"task{i}" for i in range(decoders)]
    values = {
        "architecture": "transformer",
        "weight_type": weight_type,
        "layer_norm_epsilon": epsilon,
        "decoders": names,
        "pad_id": 0,
        "bos_id": 1,
        "eos_id": EOS,
        "unk_id": 0,
        "not_text": [0, 1],
        "task_names": names,
        "task_sources": ["en"] * decoders,
        "task_targets": ["fr"] * decoders,
        "task_tags": [TAG] * decoders,
        "task_decoders": list(range(decoders)),
        **{name: sizes[name] for name in SIZES},
        **{name: sizes[name] for name in SUBLAYERS if name in sizes},
    }
    for name in ("tie_embeddings", "transparent_attention"):
        if name in values:
            values[name] = int(values[name])
    return write_model_file(path, values, tensors)


def write_keras_model(path, model, weight_type="float32"):
    """Writes the model file of a Keras model."""
    from keras_mtl.engine.arrays import norm_epsilon, transformer_arrays

    return write_engine_file(
        path,
        transformer_arrays(model),
        model.get_config(),
        len(model.decoders),
        weight_type,
        norm_epsilon(model),
    )


def random_arrays(sizes, decoders=1, seed=0, spread=1.5):
    """Random weights of a Transformer by name; `spread` widens the distributions of tokens."""
    random = np.random.default_rng(seed)
    arrays = {}
    kinds = {**SUBLAYERS, **sizes}
    vocabulary, dim, inner = (
        sizes[name] for name in ("vocabulary_size", "hidden_dim", "intermediate_dim")
    )

    def add(name, *shape, scale=1.0):
        arrays[name] = (random.normal(size=shape) * scale).astype(np.float32)

    def dense(name, columns, depth):
        add(f"{name}.weight", columns, depth, scale=spread * depth**-0.5)
        add(f"{name}.bias", columns, scale=0.3)

    def norm(name):
        add(f"{name}.gamma", dim)
        if kinds["norm"] == "layer_norm":
            add(f"{name}.beta", dim, scale=0.3)

    def final_norm(stack):
        if kinds["norm_position"] == "pre":
            norm(f"{stack}.final_norm")

    def feed_forward(layer):
        norm(f"{layer}.feed_forward_norm")
        gated = kinds["feed_forward"] == "gated"
        for part in ("gate", "value") if gated else ("intermediate",):
            dense(f"{layer}.feed_forward.{part}", inner, dim)
        dense(f"{layer}.feed_forward.output", dim, inner)

    tied = sizes["tie_embeddings"]
    for name in ("embedding",) if tied else ("source_embedding", "target_embedding"):
        add(f"{name}.weight", vocabulary, dim, scale=spread * dim**-0.5)
    if kinds["positions"] == "rotary":
        angles = random.uniform(0, 3, [sizes["max_length"], dim // sizes["num_heads"] // 2])
        table = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
        arrays["rotary_positions"] = table.astype(np.float32)
    elif kinds["positions"] != "none":
        for name in ("source_positions", "target_positions"):
            add(name, sizes["max_length"], dim)
    for i in range(sizes["encoder_layers"]):
        layer = f"encoder.layer.{i}"
        norm(f"{layer}.attention_norm")
        dense(f"{layer}.attention.qkv", 3 * dim, dim)
        dense(f"{layer}.attention.output", dim, dim)
        feed_forward(layer)
    if kinds["transparent_attention"]:
        shape = sizes["encoder_layers"] + 1, sizes["decoder_layers"]
        add("encoder.transparent_attention.layer_scores", *shape)
        if kinds["norm_position"] == "pre":
            norm("encoder.memory_norm")
    else:
        final_norm("encoder")
    for j in range(decoders):
        for i in range(sizes["decoder_layers"]):
            layer = f"decoder.{j}.layer.{i}"
            norm(f"{layer}.self_attention_norm")
            dense(f"{layer}.self_attention.qkv", 3 * dim, dim)
            dense(f"{layer}.self_attention.output", dim, dim)
            norm(f"{layer}.cross_attention_norm")
            dense(f"{layer}.cross_attention.query", dim, dim)
            dense(f"{layer}.cross_attention.key_value", 2 * dim, dim)
            dense(f"{layer}.cross_attention.output", dim, dim)
            feed_forward(layer)
        final_norm(f"decoder.{j}")
        if not tied:
            add(f"decoder.{j}.projection.weight", vocabulary, dim, scale=spread * dim**-0.5)
    return arrays


def random_file(path, changes=None, decoders=1, seed=0, weight_type="float32"):
    """Writes the model file of a random model."""
    sizes = {**SIZES, **(changes or {})}
    arrays = random_arrays(sizes, decoders, seed)
    return write_engine_file(path, arrays, sizes, decoders, weight_type)


def sentences(random, count, longest, vocabulary):
    """Random sources: tag, 1 to longest - 2 tokens, end of sentence."""
    return [
        [TAG, *random.integers(4, vocabulary, random.integers(1, longest - 1)).tolist(), EOS]
        for _ in range(count)
    ]
