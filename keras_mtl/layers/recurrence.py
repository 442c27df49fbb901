"""Recurrent networks as one loop over time, forward and backward.

TensorFlow differentiates a loop by keeping every intermediate value of every step. `unroll` keeps
only the states and the pre-activations, and its backward loop computes the rest again. The gradient
of the recurrent kernel is one large matrix product after that loop.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

States = list[tf.Tensor]
Cell = Callable[[tf.Tensor, States, Sequence[tf.Tensor], Sequence[tf.Tensor]], States]


def unroll(
    cell: Cell,
    kernel: tf.Tensor,
    inputs: tf.Tensor,
    initial: Sequence[tf.Tensor],
    weights: Sequence[tf.Tensor] = (),
    sequences: Sequence[tf.Tensor] = (),
    keep: tf.Tensor | None = None,
) -> States:
    """Runs a recurrent cell over time.

    At each step, the pre-activations are those of the inputs plus the product of the previous
    states with `kernel`. The last state, the memory cell of an LSTM, does not enter the product.

    Args:
        cell: function `(pre_activations [..., gates], states, sequences, weights) -> states` of one
            step. It must be differentiable and must not draw random numbers.
        kernel: float `[..., states, gates]`, with the states of the product in their order.
        inputs: float `[time, ..., gates]`, pre-activations of the inputs.
        initial: the states before the first step, `[..., dim]`, zeros; they determine shapes and
            dtypes of the states, and are not differentiated.
        weights: tensors that the cell reads at each step; they are differentiated.
        sequences: tensors `[time, ...]` whose current part the cell gets; not differentiated.
        keep: float `[time, ..., 1]`, 0 where a sequence begins: the states before such a step are
            zeros; else 1. None keeps all.

    Returns:
        The states after each step, `[time, ..., dim]`. The memory cell is not differentiated.
    """
    sequences = [tf.stop_gradient(each) for each in sequences]
    time = inputs.shape[0] or tf.shape(inputs)[0]

    @tf.custom_gradient
    def run(kernel: tf.Tensor, inputs: tf.Tensor, *weights: tf.Tensor) -> Any:
        def step(now: tf.Tensor, states: States, arrays: list[tf.TensorArray]) -> Any:
            states = _kept(states, None if keep is None else keep[now])
            gates = inputs[now] + tf.matmul(tf.concat(states[:-1], -1), kernel)
            states = cell(gates, states, [each[now] for each in sequences], weights)
            written = [
                array.write(now, value)
                for array, value in zip(arrays, [gates, *states], strict=True)
            ]
            return now + 1, states, written

        arrays = [
            tf.TensorArray(dtype, time, element_shape=shape)
            for dtype, shape in (
                (inputs.dtype, inputs.shape[1:]),
                *((each.dtype, each.shape) for each in initial),
            )
        ]
        _, _, arrays = _loop(lambda now, *_: now < time, step, (0, list(initial), arrays))
        gates, *after = (array.stack() for array in arrays)

        def gradient(*upstream: tf.Tensor) -> Any:
            before = [
                tf.concat([first[None], values[:-1]], 0)
                for first, values in zip(initial, after, strict=True)
            ]
            before = _kept(before, keep)
            dgates, dweights = _backward(
                cell, kernel, (gates, before, sequences), weights, keep, list(upstream[:-1])
            )
            product = tf.einsum("t...bs,t...bg->...sg", tf.concat(before[:-1], -1), dgates)
            return product, dgates, *dweights

        return tuple(after), gradient

    return list(run(kernel, inputs, *weights))


def _backward(
    cell: Cell,
    kernel: tf.Tensor,
    known: tuple[tf.Tensor, States, Sequence[tf.Tensor]],
    weights: Sequence[tf.Tensor],
    keep: tf.Tensor | None,
    upstream: States,
) -> tuple[tf.Tensor, States]:
    """Returns the gradients of the pre-activations of all steps, and of the weights.

    Args:
        cell: as for `unroll`.
        kernel: as for `unroll`.
        known: the pre-activations, the states before each step, and the sequences.
        weights: as for `unroll`.
        keep: as for `unroll`.
        upstream: gradients of the states after each step, without the memory cell.
    """
    gates, before, sequences = known
    time = gates.shape[0] or tf.shape(gates)[0]
    sizes = [state.shape[-1] for state in before[:-1]]

    def step(now: tf.Tensor, carried: States, sums: States, array: tf.TensorArray) -> Any:
        later = [grad + each[now] for grad, each in zip(carried, upstream, strict=False)]
        later.append(carried[-1])
        states = [each[now] for each in before]
        current, own = gates[now], list(weights)
        variables = [current, *states, *own]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            found = cell(current, states, [each[now] for each in sequences], own)
        dgates, *others = tape.gradient(
            found, variables, later, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        dproduct = tf.matmul(dgates, kernel, transpose_b=True)
        parts = [*tf.split(dproduct, sizes, -1), tf.zeros([], carried[-1].dtype)]
        carried = [own + part for own, part in zip(others, parts, strict=False)]
        carried = _kept(carried, None if keep is None else keep[now])
        sums = [
            total + tf.cast(part, tf.float32)
            for total, part in zip(sums, others[len(states) :], strict=True)
        ]
        return now - 1, carried, sums, array.write(now, dgates)

    last = [tf.zeros_like(each[0]) for each in before]
    sums = [tf.zeros(tf.shape(each), tf.float32) for each in weights]
    for total, each in zip(sums, weights, strict=True):
        total.set_shape(each.shape)
    array = tf.TensorArray(gates.dtype, time, element_shape=gates.shape[1:])
    _, _, sums, array = _loop(lambda now, *_: now >= 0, step, (time - 1, last, sums, array))
    cast = [tf.cast(total, each.dtype) for total, each in zip(sums, weights, strict=True)]
    return array.stack(), cast


def _kept(states: Sequence[tf.Tensor], keep: tf.Tensor | None) -> States:
    """Returns the states, zeros where a sequence begins."""
    if keep is None:
        return list(states)
    return [state * tf.cast(keep, state.dtype) for state in states]


def _loop(condition: Any, body: Any, state: tuple[Any, ...]) -> Any:
    """Runs a loop one step at a time; shapes of states may lose what is static."""

    def checked(*before: Any) -> Any:
        after = body(*before)
        tf.nest.map_structure(_same_shape, after, before)
        return after

    start = tf.convert_to_tensor(state[0], tf.int32)
    return tf.while_loop(condition, checked, (start, *state[1:]), parallel_iterations=1)


def _same_shape(new: Any, old: Any) -> None:
    if tf.is_tensor(new):
        new.set_shape(old.shape)
