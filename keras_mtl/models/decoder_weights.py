"""Runs one decoder with the weights of another, so that one program serves all decoders."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import keras
import tensorflow as tf

from keras_mtl.errors import InputError

_Result = TypeVar("_Result")


def select_weights(
    decoders: Sequence[keras.layers.Layer], index: tf.Tensor | None
) -> list[tf.Tensor] | None:
    """Returns the weights of a decoder.

    Args:
        decoders: decoders of equal structure.
        index: int32 of any shape, equal everywhere: the index of the decoder.

    Returns:
        The weights, frozen ones too, in the order of `weights`; None if there is only one decoder.

    Raises:
        InputError: there are several decoders, but no index.
    """
    if len(decoders) == 1:
        return None
    if index is None:
        raise InputError(
            f"the model has {len(decoders)} decoders, but inputs['decoder'] is missing; "
            "give the index of the decoder for each row"
        )
    values = [
        [tf.convert_to_tensor(variable) for variable in chosen.weights] for chosen in decoders
    ]
    branches = [lambda chosen=chosen: [tf.identity(v) for v in chosen] for chosen in values]
    return tf.switch_case(tf.reshape(index, [-1])[0], branches)


def call_with_weights(
    decoder: keras.layers.Layer,
    weights: Sequence[tf.Tensor] | None,
    generator: keras.random.SeedGenerator,
    function: Callable[[keras.layers.Layer], _Result],
) -> _Result:
    """Calls `function(decoder)` with `weights` instead of the decoder's own variables.

    Args:
        decoder: a decoder.
        weights: from `select_weights`; None keeps the decoder's own.
        generator: the generator of dropout, whose state advances.
        function: what to call.
    """
    if weights is None:
        return function(decoder)
    mapping = list(zip(decoder.weights, weights, strict=True))
    with keras.StatelessScope(state_mapping=mapping) as scope:
        outputs = function(decoder)
    # The scope also holds back the state of dropout, which must advance.
    state = generator.state
    drawn = scope.get_current_value(state)
    if drawn is not None:
        state.assign(drawn)
    return outputs


def owners(
    decoders: Sequence[keras.layers.Layer], variables: Sequence[keras.Variable]
) -> list[int | None]:
    """Returns the index of the only decoder that uses each variable, or None.

    Args:
        decoders: the decoders of a model.
        variables: trainable variables of the model.
    """
    if len(decoders) == 1:
        return [None] * len(variables)
    owner = {
        id(variable): index
        for index, decoder in enumerate(decoders)
        for variable in decoder.trainable_variables
    }
    return [owner.get(id(variable)) for variable in variables]
