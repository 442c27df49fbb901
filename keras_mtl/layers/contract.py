"""Checks that a sub-layer of a plug-in keeps its contract, before hours of training."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mtl.configuration import plugins
from keras_mtl.errors import ConfigError, KerasMtlError

# Larger than rounding errors, but smaller than the effect of another position.
_TOLERANCE = {"float32": 1e-3, "float64": 1e-3, "float16": 0.02, "bfloat16": 0.1}


def check_sublayer(
    what: str,
    make: Callable[[keras.random.SeedGenerator], keras.layers.Layer],
    dim: int,
    problems: Callable[[keras.layers.Layer, keras.random.SeedGenerator, int], Iterator[str]],
) -> None:
    """Runs a sub-layer under the current dtype policy.

    Args:
        what: description of the layer for messages, such as `task.model.norm 'rms'`.
        make: function that creates the layer; the generator is its `seed`, if it has one.
        dim: width of the model.
        problems: function that yields what breaks the contract, called with the layer, its
            generator and the width: `position_wise_problems` or `attention_problems`.

    Raises:
        ConfigError: the layer raises an error, or breaks the contract of docs/how-to/extending.md.
    """
    generator = keras.random.SeedGenerator(0)
    filters = keras.config.is_traceback_filtering_enabled()
    # Otherwise Keras adds a list of all arguments to the message of an error.
    keras.config.disable_traceback_filtering()
    try:
        problem = next(problems(make(generator), generator, dim), None)
    except KerasMtlError:
        raise
    except Exception as error:
        remedy = "repair the layer, or use another one"
        raise plugins.failure(f"{what} cannot be used", error, remedy, _message(error)) from error
    finally:
        if filters:
            keras.config.enable_traceback_filtering()
    if problem:
        raise ConfigError(f"{what} {problem}")


def position_wise_problems(
    layer: keras.layers.Layer, generator: keras.random.SeedGenerator, dim: int
) -> Iterator[str]:
    """Yields the problems of a feed-forward block or a norm, causes before consequences."""
    layer.build((None, None, dim))
    infer = _function(layer, dim, training=False)
    x = _inputs(layer, dim)
    yield from _common_problems(layer, generator, infer, x)
    outputs = infer(x)
    # Some of the same vectors, in reverse order and in one row.
    moved = infer(tf.reshape(x, [1, 10, dim])[:, 9:2:-1])
    if _differ(moved, tf.reshape(outputs, [1, 10, dim])[:, 9:2:-1]):
        yield (
            "is not position-wise: its output at a position depends on other positions, but "
            "decoding runs one position at a time and training must not see the next token; use "
            "only the vector of the position itself"
        )
    yield from _gradient_problems(layer, dim, x)


def attention_problems(
    layer: keras.layers.Layer, generator: keras.random.SeedGenerator, dim: int
) -> Iterator[str]:
    """Yields the problems of self-attention, causes before consequences."""
    layer.build((None, None, dim))
    infer = _function(layer, dim, training=False, use_causal_mask=True)
    x = _inputs(layer, dim)
    yield from _common_problems(layer, generator, infer, x)
    outputs = infer(x)
    changed = tf.concat([x[:, :3], -x[:, 3:]], axis=1)
    if _differ(infer(changed)[:, :3], outputs[:, :3]):
        yield "looks ahead although use_causal_mask is true: training would see the next token"
    mask = tf.constant([[True, True, True, False, False]] * 2)
    masked = [layer(each, mask=mask, training=False)[:, :3] for each in (x, changed)]
    if _differ(*masked):
        yield "attends to positions that are false in mask"
    yield from _gradient_problems(layer, dim, x, use_causal_mask=True)
    # Beam 1 of each sentence has its inputs, beam 0 others; they change places after each step.
    cache = layer.start(2, 2, 5)
    for index in range(5):
        here = x[:, index]
        beams = [here, -here] if index % 2 else [-here, here]
        found, cache = layer.step(tf.stack(beams, axis=1), tf.constant(index), cache)
        if _differ(found[:, 1 - index % 2], outputs[:, index]):
            yield (
                f"computes other outputs in step() than in call() at position {index}; both must "
                "agree, and the second axis of each tensor in the cache must be that of the beams"
            )
            return
        cache = {name: tf.reverse(value, [1]) for name, value in cache.items()}


def _inputs(layer: keras.layers.Layer, dim: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).normal(size=[2, 5, dim]), layer.compute_dtype)


def _function(layer: keras.layers.Layer, dim: int, **options: Any) -> Callable[..., tf.Tensor]:
    """Returns the layer as a function of inputs whose sizes of batch and time are unknown."""
    signature = [tf.TensorSpec([None, None, dim], layer.compute_dtype)]
    return tf.function(lambda x: layer(x, **options), input_signature=signature, autograph=False)


def _differ(found: tf.Tensor, expected: tf.Tensor) -> bool:
    """Returns whether outputs differ by more than rounding errors."""
    allowed = _TOLERANCE.get(found.dtype.name, 0.1) * max(1e-6, np.abs(_array(expected)).max())
    return bool(np.abs(_array(found) - _array(expected)).max() > allowed)


def _common_problems(
    layer: keras.layers.Layer,
    generator: keras.random.SeedGenerator,
    infer: Callable[..., tf.Tensor],
    x: tf.Tensor,
) -> Iterator[str]:
    """Yields the problems that any sub-layer can have; `infer` is the layer without dropout."""
    built = [variable.path for variable in layer.variables]
    outputs = infer(x)
    if late := [v.path for v in layer.variables if v.path not in built]:
        yield (
            f"creates the variable {late[0]} when it is called; create it in build(input_shape), "
            "and build inner layers there too"
        )
    if outputs.shape != x.shape or outputs.dtype != x.dtype:
        yield (
            f"returns {outputs.dtype.name} {outputs.shape} for {x.dtype.name} {x.shape}; return "
            "the shape of the input, in the layer's compute_dtype"
        )
    yield from _variable_problems(layer, generator)
    if not np.isfinite(_array(outputs)).all():
        yield "returns values that are not finite for inputs of mean 0 and variance 1"
    if not np.array_equal(_array(outputs), _array(infer(x))):
        yield "is random when training is false; drop only if training is true"


def _gradient_problems(
    layer: keras.layers.Layer, dim: int, x: tf.Tensor, **options: Any
) -> Iterator[str]:
    signature = [tf.TensorSpec([None, None, dim], layer.compute_dtype)]

    @tf.function(input_signature=signature, autograph=False)
    def gradients(x: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            outputs = layer(x, training=True, **options)
        return tape.gradient(outputs, layer.trainable_variables)

    for variable, gradient in zip(layer.trainable_variables, gradients(x), strict=True):
        if gradient is None:
            yield f"does not use the variable {variable.path} in training; remove it"


def _variable_problems(
    layer: keras.layers.Layer, generator: keras.random.SeedGenerator
) -> Iterator[str]:
    found = {id(part) for part in tf.train.TrackableView(layer).descendants()}
    for variable in layer.trainable_variables:
        if id(variable) not in found:
            yield (
                f"keeps the layer of the variable {variable.path} in a list, which checkpoints "
                "do not search; give each layer its own attribute (setattr(self, name, layer))"
            )
    for variable in layer.non_trainable_variables:
        if variable is not generator.state:
            yield (
                f"has the variable {variable.path}, which is not trained; a sub-layer must have "
                "only trained weights. For dropout, use keras_mtl.layers.Dropout(rate, seed=seed) "
                "with the given seed"
            )


def _message(error: Exception) -> str:
    """Returns the message of an error, without the traceback that `tf.function` adds."""
    traced = getattr(error, "ag_error_metadata", None)
    if traced is None:
        return str(error)
    return str(traced.cause_message).removeprefix(f"{type(error).__name__}: ")


def _array(value: tf.Tensor) -> np.ndarray:
    return tf.cast(value, tf.float32).numpy()
