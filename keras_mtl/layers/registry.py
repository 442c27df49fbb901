"""Sub-layers of the Transformer by name: feed-forward blocks and normalizations.

`keras_mtl.layers.contract` checks what a registered class must do.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import keras

from keras_mtl.configuration.components import Registry, constructor_parameters
from keras_mtl.configuration.sublayers import STANDARD
from keras_mtl.errors import ConfigError

_Class = TypeVar("_Class", bound=type[keras.layers.Layer])

_KERAS = ("name", "dtype")
_BLOCK = ("intermediate_dim", "activation", "dropout", "seed")

FEED_FORWARDS = Registry[keras.layers.Layer](
    "feed-forward block",
    "task.model.feed_forward",
    supplied=(*_BLOCK, *_KERAS),
    base=keras.layers.Layer,
)
NORMS = Registry[keras.layers.Layer](
    "normalization", "task.model.norm", supplied=_KERAS, base=keras.layers.Layer
)


def register_feed_forward(name: str) -> Callable[[_Class], _Class]:
    """Class decorator: makes a Keras layer a feed-forward block that `task.model` can choose.

    The constructor gets `intermediate_dim`, `activation`, `dropout`, `seed`, `name` and `dtype` by
    name, as `FeedForward` does. Its other keyword-only arguments are what
    `task.model.feed_forward_parameters` sets.

    Args:
        name: value of `task.model.feed_forward`.

    Raises:
        ConfigError: the name is taken, or the class is not such a layer.
    """
    return _decorator("register_feed_forward", FEED_FORWARDS, name, _BLOCK)


def register_norm(name: str) -> Callable[[_Class], _Class]:
    """Class decorator: makes a Keras layer a normalization that `task.model` can choose.

    The constructor gets `name` and `dtype` by name. Its other keyword-only arguments are what
    `task.model.norm_parameters` sets.

    Args:
        name: value of `task.model.norm`.

    Raises:
        ConfigError: the name is taken, or the class is not such a layer.
    """
    return _decorator("register_norm", NORMS, name, ())


def create_feed_forward(
    name: str, parameters: Mapping[str, Any] | None, /, **arguments: Any
) -> keras.layers.Layer:
    """Makes a feed-forward block.

    Args:
        name: a registered name.
        parameters: its own parameters.
        **arguments: those that every block gets; see `register_feed_forward`.

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
    """Makes a normalization.

    Args:
        name: a registered name.
        parameters: its own parameters.
        layer_norm_epsilon: `epsilon` of `LayerNorm`; other normalizations have their own.
        **arguments: `name` and `dtype`.

    Raises:
        ConfigError: the name or a parameter is unknown or missing.
    """
    if name == STANDARD["norm"]:
        arguments["epsilon"] = layer_norm_epsilon
    return _create(NORMS, name, parameters, arguments)


def _create(
    registry: Registry[keras.layers.Layer],
    name: str,
    parameters: Mapping[str, Any] | None,
    arguments: dict[str, Any],
) -> keras.layers.Layer:
    layer = registry.create(name, parameters or {}, **arguments)
    # What is position-wise needs no mask, and Keras would warn that it drops the encoder's.
    layer.supports_masking = True
    return layer


def _decorator(
    decorator: str, registry: Registry[keras.layers.Layer], name: str, supplied: tuple[str, ...]
) -> Callable[[_Class], _Class]:
    kind = registry.kind

    def register(cls: _Class) -> _Class:
        if not (isinstance(cls, type) and issubclass(cls, keras.layers.Layer)):
            raise ConfigError(f"the {kind} {name!r} is {cls!r}; decorate a keras.layers.Layer")
        known = constructor_parameters(cls, keras.layers.Layer)
        missing = [argument for argument in supplied if argument not in known]
        if missing:
            raise ConfigError(
                f"the {kind} {name!r} ({cls.__qualname__}) does not take {', '.join(missing)}; the "
                f"model gives its constructor {', '.join((*supplied, *_KERAS))}, each by name"
            )
        registry.add(name, cls)
        return cls

    if not isinstance(name, str) or not name:
        raise ConfigError(
            f"the {kind} {getattr(name, '__qualname__', name)!r} has no name; give the decorator "
            f'one, as @{decorator}("my_name")'
        )
    return register
