"""Sub-layers of the Transformer by name: self-attention, feed-forward blocks, normalizations.

`keras_mtl.layers.contract` checks that a registered class keeps its contract.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import keras

from keras_mtl.configuration.components import Family, constructor_parameters
from keras_mtl.configuration.sublayers import BUILT_IN
from keras_mtl.errors import ConfigError

_Class = TypeVar("_Class", bound=type[keras.layers.Layer])

_KERAS = ("name", "dtype")
_BLOCK = ("intermediate_dim", "activation", "dropout", "seed")
_HEADS = ("num_heads", "dropout", "rotary", "seed")

FEED_FORWARDS = Family[keras.layers.Layer](
    "feed-forward block",
    "task.model.feed_forward",
    supplied=(*_BLOCK, *_KERAS),
    base=keras.layers.Layer,
)
NORMS = Family[keras.layers.Layer](
    "normalization", "task.model.norm", supplied=_KERAS, base=keras.layers.Layer
)

SELF_ATTENTIONS = Family[keras.layers.Layer](
    "self-attention",
    "task.model.self_attention",
    supplied=(*_HEADS, *_KERAS),
    base=keras.layers.Layer,
)


def register_self_attention(name: str) -> Callable[[_Class], _Class]:
    """Registers a Keras layer as self-attention; a class decorator.

    The layer has the methods `build`, `call`, `start` and `step` of `SelfAttention`, from which it
    usually inherits. The constructor gets `num_heads`, `dropout`, `rotary`, `seed`, `name` and
    `dtype` by name. `task.model.self_attention_parameters` sets its other keyword-only arguments.

    Args:
        name: value of `task.model.self_attention` that selects the layer.

    Returns:
        The decorator.

    Raises:
        ConfigError: the name is taken, or the class is not such a layer.

    Example:
        ```python
        import keras
        import tensorflow as tf
        from keras_mtl import layers

        @layers.register_self_attention("query_key_norm")
        @keras.saving.register_keras_serializable(package="example")
        class QueryKeyNorm(layers.SelfAttention):
            def transform(self, query, key, positions):
                query, key = super().transform(query, key, positions)
                return 16 * tf.math.l2_normalize(query, -1), tf.math.l2_normalize(key, -1)
        ```
    """
    return _decorator("register_self_attention", SELF_ATTENTIONS, name, _HEADS)


def register_feed_forward(name: str) -> Callable[[_Class], _Class]:
    """Registers a Keras layer as a feed-forward block; a class decorator.

    The constructor gets `intermediate_dim`, `activation`, `dropout`, `seed`, `name` and `dtype` by
    name, like `FeedForward`. `task.model.feed_forward_parameters` sets its other keyword-only
    arguments.

    Args:
        name: value of `task.model.feed_forward` that selects the layer.

    Returns:
        The decorator.

    Raises:
        ConfigError: the name is taken, or the class is not such a layer.

    Example:
        ```python
        import keras
        from keras_mtl import layers

        @layers.register_feed_forward("linear")
        @keras.saving.register_keras_serializable(package="example")
        class LinearBlock(keras.layers.Layer):
            def __init__(self, intermediate_dim, activation, dropout, seed, **kwargs):
                super().__init__(**kwargs)

            def build(self, input_shape):
                self.dense = keras.layers.Dense(input_shape[-1], dtype=self.dtype_policy)
                self.dense.build(input_shape)

            def call(self, inputs, training=False):
                return self.dense(inputs)
        ```
    """
    return _decorator("register_feed_forward", FEED_FORWARDS, name, _BLOCK)


def register_norm(name: str) -> Callable[[_Class], _Class]:
    """Registers a Keras layer as a normalization; a class decorator.

    The constructor gets `name` and `dtype` by name. `task.model.norm_parameters` sets its other
    keyword-only arguments.

    Args:
        name: value of `task.model.norm` that selects the layer.

    Returns:
        The decorator.

    Raises:
        ConfigError: the name is taken, or the class is not such a layer.

    Example:
        ```python
        import keras
        from keras_mtl import layers

        @layers.register_norm("keras_rms")
        @keras.saving.register_keras_serializable(package="example")
        class KerasRms(keras.layers.RMSNormalization):
            pass
        ```
    """
    return _decorator("register_norm", NORMS, name, ())


def create_self_attention(
    name: str, parameters: Mapping[str, Any] | None, /, **arguments: Any
) -> keras.layers.Layer:
    """Creates a self-attention layer.

    Args:
        name: a registered name.
        parameters: the parameters of the layer.
        **arguments: arguments that every such layer gets; see `register_self_attention`.

    Raises:
        ConfigError: the name or a parameter is unknown or missing.
    """
    return _create(SELF_ATTENTIONS, name, parameters, arguments)


def create_feed_forward(
    name: str, parameters: Mapping[str, Any] | None, /, **arguments: Any
) -> keras.layers.Layer:
    """Creates a feed-forward block.

    Args:
        name: a registered name.
        parameters: the parameters of the block.
        **arguments: arguments that every block gets; see `register_feed_forward`.

    Raises:
        ConfigError: the name or a parameter is unknown or missing.
    """
    return _create(FEED_FORWARDS, name, parameters, arguments)


def create_norm(
    name: str,
    parameters: Mapping[str, Any] | None,
    layer_norm_epsilon: float = 1e-6,
    /,
    **arguments: Any,
) -> keras.layers.Layer:
    """Creates a normalization.

    Args:
        name: a registered name.
        parameters: the parameters of the normalization.
        layer_norm_epsilon: `epsilon` of our own normalizations; others have their own.
        **arguments: `name` and `dtype`.

    Raises:
        ConfigError: the name or a parameter is unknown or missing.
    """
    if name in BUILT_IN["norm"]:
        arguments["epsilon"] = layer_norm_epsilon
    return _create(NORMS, name, parameters, arguments)


def _create(
    family: Family[keras.layers.Layer],
    name: str,
    parameters: Mapping[str, Any] | None,
    arguments: dict[str, Any],
) -> keras.layers.Layer:
    own = dict(parameters or {})
    layer = family.find(name, own)(**arguments, **own)
    # What is position-wise needs no mask, and Keras would warn that it drops the encoder's.
    layer.supports_masking = True
    return layer


def _decorator(
    decorator: str, family: Family[keras.layers.Layer], name: str, supplied: tuple[str, ...]
) -> Callable[[_Class], _Class]:
    kind = family.kind

    def register(cls: _Class) -> _Class:
        if not (isinstance(cls, type) and issubclass(cls, keras.layers.Layer)):
            raise ConfigError(f"the {kind} {name!r} is {cls!r}; decorate a keras.layers.Layer")
        known = constructor_parameters(cls, keras.layers.Layer)
        missing = [argument for argument in supplied if argument not in known]
        if missing:
            raise ConfigError(
                f"the {kind} {name!r} ({cls.__qualname__}) does not take {', '.join(missing)}; its "
                f"constructor must take {', '.join((*supplied, *_KERAS))} by name"
            )
        family.add(name, cls)
        return cls

    if not isinstance(name, str) or not name:
        raise ConfigError(
            f"the {kind} {getattr(name, '__qualname__', name)!r} has no name; give the decorator "
            f'one, as @{decorator}("my_name")'
        )
    return register
