"""Checks that every layer must pass."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def _call(layer: keras.layers.Layer, inputs: list[Any], **options: Any) -> Any:
    return layer(*[tf.constant(value) for value in inputs], **options)


def _as_model(layer: keras.layers.Layer, inputs: list[np.ndarray]) -> keras.Model:
    symbolic = [keras.Input(value.shape[1:], dtype=value.dtype.name) for value in inputs]
    return keras.Model(symbolic, layer(*symbolic))


def _set_distinct_weights(layer: keras.layers.Layer) -> None:
    """Moves biases off 0, so that a weight that is lost on the way shows."""
    generator = np.random.default_rng(5)
    for variable in layer.trainable_variables:
        noise = generator.normal(scale=0.05, size=variable.shape)
        variable.assign(variable + tf.cast(noise, variable.dtype))


def check_layer(
    make: Callable[..., keras.layers.Layer],
    kwargs: dict[str, Any],
    inputs: list[np.ndarray],
    expected_shape: tuple[int, ...],
    tmp_path: Any,
    *,
    trainable: int,
    unmoved: tuple[str, ...] = (),
    tolerance: float = 1e-5,
) -> None:
    """Runs the battery.

    Args:
      make: the layer's class.
      kwargs: constructor arguments; each must come back from `get_config`.
      inputs: arrays the layer is called with.
      expected_shape: shape of the output.
      tmp_path: directory for the saved model.
      trainable: number of trainable variables.
      unmoved: names of variables whose gradient is 0 by the mathematics.
      tolerance: absolute difference allowed between XLA and no XLA.
    """
    layer = make(**kwargs)
    _call(layer, inputs)
    _set_distinct_weights(layer)
    outputs = _call(layer, inputs)
    _check_shapes(layer, inputs, outputs, expected_shape)
    assert len(layer.trainable_variables) == trainable
    _check_config(layer, make, kwargs, inputs, outputs)
    _check_saving(layer, inputs, outputs, tmp_path / f"{make.__name__}.keras")
    gradients = _check_xla(layer, make, inputs, tolerance)
    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        if variable.name not in unmoved:
            assert np.abs(gradient).max() > 0, f"no gradient for {variable.path}"
    _check_dtypes(layer, make, kwargs, inputs, outputs)


def _check_shapes(
    layer: keras.layers.Layer, inputs: list[np.ndarray], outputs: Any, expected: tuple[int, ...]
) -> None:
    assert tuple(outputs.shape) == expected
    shapes = [value.shape for value in inputs]
    assert tuple(layer.compute_output_shape(*shapes)) == expected


def _check_config(
    layer: keras.layers.Layer,
    make: Callable[..., keras.layers.Layer],
    kwargs: dict[str, Any],
    inputs: list[np.ndarray],
    outputs: Any,
) -> None:
    """Every argument comes back from the configuration, which makes the same layer."""
    config = layer.get_config()
    for key, value in kwargs.items():
        assert config[key] == value, f"get_config()[{key!r}] is {config[key]!r}, not {value!r}"
    twin = make.from_config(config)
    _call(twin, inputs)
    assert twin.get_config() == config
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(_call(twin, inputs), outputs)


def _check_saving(
    layer: keras.layers.Layer, inputs: list[np.ndarray], outputs: Any, path: Any
) -> None:
    _as_model(layer, inputs).save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded(inputs), outputs)


def _check_xla(
    layer: keras.layers.Layer,
    make: Callable[..., keras.layers.Layer],
    inputs: list[np.ndarray],
    tolerance: float,
) -> list[np.ndarray]:
    """XLA computes the same, dropout included: the masks are a function of the seed's state.

    Returns:
      The gradients of the trainable variables, in training.
    """
    config = layer.get_config()
    has_training = "training" in _parameters(layer)
    results = []
    for jit in (False, True):
        fresh = make.from_config({**config, **({"seed": 3} if "seed" in config else {})})
        _call(fresh, inputs)
        weights = [w.numpy() for w in layer.trainable_variables]
        for variable, weight in zip(fresh.trainable_variables, weights, strict=True):
            variable.assign(weight)
        found = _gradients(fresh, inputs, jit, {"training": True} if has_training else {})
        if has_training:
            infer = tf.function(
                lambda *x, layer=fresh: layer(*x, training=False), jit_compile=jit, autograph=False
            )
            found.append(np.array(infer(*[tf.constant(value) for value in inputs])))
        results.append(found)
    for plain, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(plain, compiled, atol=tolerance * 10, rtol=1e-4)
    return results[0][1 : 1 + len(layer.trainable_variables)]


def _check_dtypes(
    layer: keras.layers.Layer,
    make: Callable[..., keras.layers.Layer],
    kwargs: dict[str, Any],
    inputs: list[np.ndarray],
    outputs: Any,
) -> None:
    """With mixed precision: bfloat16 out, float32 weights, and nearly the same numbers."""
    for policy in ("mixed_bfloat16", "float32", "float64"):
        cast = make(**kwargs, dtype=policy)
        typed = _call(cast, inputs)
        assert typed.dtype == keras.DTypePolicy(policy).compute_dtype
        variable_dtype = keras.DTypePolicy(policy).variable_dtype
        assert all(v.dtype == variable_dtype for v in cast.trainable_variables)
        for variable, value in zip(
            cast.trainable_variables, layer.trainable_variables, strict=True
        ):
            variable.assign(tf.cast(tf.convert_to_tensor(value), variable.dtype))
        typed = tf.cast(_call(cast, inputs), tf.float32)
        scale = np.abs(outputs).max()
        allowed = 0.05 if policy == "mixed_bfloat16" else 1e-4
        np.testing.assert_allclose(typed, outputs, atol=allowed * scale)


def _parameters(layer: keras.layers.Layer) -> set[str]:
    return set(layer.call.__code__.co_varnames[: layer.call.__code__.co_argcount])


def _gradients(
    layer: keras.layers.Layer, inputs: list[np.ndarray], jit: bool, options: dict[str, Any]
) -> list[np.ndarray]:
    """Returns the outputs and the gradients of a loss of random direction."""
    direction = np.random.default_rng(9).normal(size=_call(layer, inputs).shape)

    @tf.function(jit_compile=jit, autograph=False)
    def compute(*tensors):
        with tf.GradientTape() as tape:
            outputs = layer(*tensors, **options)
            loss = tf.reduce_sum(outputs * tf.cast(direction, outputs.dtype))
        gradients = tape.gradient(loss, layer.trainable_variables)
        return outputs, [tf.convert_to_tensor(g) for g in gradients]

    outputs, gradients = compute(*[tf.constant(value) for value in inputs])
    return [np.array(outputs), *[np.array(g) for g in gradients]]


def check_padding(
    call: Callable[[np.ndarray, np.ndarray], Any], sequence: np.ndarray, real: int
) -> None:
    """Checks that what stands in the padding, and how long it is, changes no real output.

    Args:
      call: `(sequence [batch, time, dim], mask bool [batch, time]) -> outputs`; rows of the output
        beyond `real` are not compared when the output has the sequence's length.
      sequence: `[batch, time, dim]`, all of it real.
      real: positions that stay real.
    """
    batch, _, dim = sequence.shape
    head = sequence[:, :real]
    reference = np.array(call(head, np.ones([batch, real], bool)))
    for extra, content in ((3, 0.0), (3, 1e3), (9, -7.0)):
        padding = np.full([batch, extra, dim], content, sequence.dtype)
        longer = np.concatenate([head, padding], axis=1)
        mask = np.arange(real + extra)[None].repeat(batch, 0) < real
        outputs = np.array(call(longer, mask))[:, : reference.shape[1]]
        # Equal but for the order of sums, which follows the length.
        np.testing.assert_allclose(outputs, reference, atol=2e-6, rtol=2e-6)
    same = [np.full([batch, 3, dim], c, sequence.dtype) for c in (0.0, 55.0)]
    mask = np.arange(real + 3)[None].repeat(batch, 0) < real
    first, second = (
        np.array(call(np.concatenate([head, padding], axis=1), mask))[:, : reference.shape[1]]
        for padding in same
    )
    np.testing.assert_array_equal(first, second)
