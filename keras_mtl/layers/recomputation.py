"""Calls a layer so that the backward pass computes its activations again."""

from typing import Any

import keras
import tensorflow as tf

RECOMPUTE = ("none", "layer")
"""What the backward pass of a model computes again: nothing, or each layer of its stacks."""


def call_recomputed(
    generator: keras.random.SeedGenerator,
    layer: keras.layers.Layer,
    *inputs: tf.Tensor,
    **options: Any,
) -> tf.Tensor:
    """Calls a layer whose activations are computed again in the backward pass.

    Only the inputs are kept in memory until then. The second computation draws the same numbers
    from the generator, so outputs and gradients are those of `layer(*inputs, **options)`. `keras
    .remat` does not suffice: it draws other dropout masks the second time, and it does not
    differentiate weights that a `keras.StatelessScope` provides.

    Args:
        generator: the generator of all random numbers that the layer draws.
        layer: a built layer whose only state is that of the generator.
        inputs: float tensors of any shape, which are differentiated.
        options: other arguments, which are not differentiated.

    Returns:
        The output of the layer, a tensor.

    Reference: Chen et al., arXiv 1604.06174.
    """
    variables = layer.weights  # Not only the trainable ones: others may be frozen.
    state = generator.state
    # A custom gradient can only differentiate its arguments, so they include the weights.
    weights = [tf.convert_to_tensor(variable) for variable in variables]
    start = tf.convert_to_tensor(state)
    count = len(inputs)

    def compute(arguments: Any, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values = zip(variables, arguments[count:], strict=True)
        with keras.StatelessScope(state_mapping=[*values, (state, seed)]) as scope:
            outputs = layer(*arguments[:count], **options)
        return outputs, scope.get_current_value(state)

    ends = []

    @tf.custom_gradient
    def call(*arguments: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> Any:
            values, seed = _after(upstream, (arguments[:count], start))
            again = [*values, *arguments[count:]]
            with tf.GradientTape() as tape:
                tape.watch(again)
                outputs, _ = compute(again, seed)
            return tape.gradient(
                outputs, again, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )

        outputs, end = compute(arguments, start)
        ends.append(end)
        return outputs, gradient

    outputs = call(*inputs, *weights)
    # Not an output of `call`, which would tie the end to other outputs in one operation. TensorFlow
    # would rely on that order, split the operation, and could assign before earlier reads.
    state.assign(ends[0])
    return outputs


def _after(upstream: tf.Tensor, values: Any) -> Any:
    """Returns values unchanged, but not before the gradient from upstream is known.

    Without this, a compiler would see that the forward pass has already computed the same, and keep
    it. XLA ignores control dependencies, so the values depend on a condition that it cannot decide.
    """
    sample = tf.reshape(upstream, [-1])[:1]
    never = tf.reduce_any(tf.math.is_nan(sample) & tf.math.is_inf(sample))
    return tf.nest.map_structure(
        lambda value: tf.where(never, tf.zeros([], value.dtype), value), values
    )
