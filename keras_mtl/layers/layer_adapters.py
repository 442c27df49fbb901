"""The adapters of one layer of an encoder or decoder."""

import re
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_mtl.configuration.adapters import BOTTLENECK, LORA, AdapterSet
from keras_mtl.errors import ConfigError
from keras_mtl.layers.adapter_rows import AdapterRows
from keras_mtl.layers.adapters import Bottleneck, LowRank, bottleneck, low_rank
from keras_mtl.layers.dense import Dense

_KINDS: dict[str, Any] = {BOTTLENECK: Bottleneck, LORA: LowRank}


class LayerAdapters(keras.layers.Layer):
    """The adapters of one layer: bottlenecks after it, and LoRA for its dense layers.

    Sets are applied in their order. Each row uses at most one adapter of a set.

    Args:
        sets: the sets of the model, of which some may be of another stack.
        stack: `encoder` or `decoder`.
        layer: the layer, which is built before the adapters.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(
        self, sets: Sequence[AdapterSet], stack: str, layer: keras.layers.Layer, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self._plain = _Untracked(layer, sets)
        self._members: list[list[Any]] = []
        for each in sets:
            members = each.members if each.kind in _KINDS and stack in each.stacks else ()
            found = [
                _KINDS[each.kind](each.size, dtype=self.dtype_policy, name=f"{each.name}_{member}")
                for member in members
            ]
            # tf.train.Checkpoint tracks attributes but, with Keras 3, not the members of a list.
            for member in found:
                setattr(self, f"adapter_{member.name}", member)
            self._members.append(found)

    def build(self, input_shape: Any) -> None:
        for each, members in zip(self._plain.sets, self._members, strict=True):
            if each.kind == BOTTLENECK:
                for member in members:
                    member.build(input_shape)
            elif members:
                self._build_low_rank(each, members)
        self.built = True

    def _build_low_rank(self, each: AdapterSet, members: Sequence[LowRank]) -> None:
        known = dense_layers(self._plain.layer)
        chosen = {n: dense for n, dense in known.items() if re.fullmatch(each.match, n)}
        if not chosen:
            raise ConfigError(
                f"match = {each.match!r} of the adapters {each.name!r} in task.model.adapters fits "
                f"no dense layer of {self.path}; its dense layers are {', '.join(known)}"
            )
        shapes = {name: tuple(dense.kernel.shape) for name, dense in chosen.items()}
        for member in members:
            member.build(shapes)
        for name, dense in chosen.items():
            self._plain.dense_of.setdefault(name, []).append(each.name)
            dense.term = self._term_of(name)

    def _term_of(self, name: str) -> Any:
        return lambda inputs: self._low_rank(name, inputs)

    @property
    def adapted(self) -> dict[str, list[str]]:
        """Names of the sets of LoRA of each dense layer that has some, by name."""
        return dict(self._plain.dense_of)

    def members(self, number: int) -> list[Any]:
        """Returns the adapters of a set, by its number; none if they are of another stack."""
        return self._members[number]

    def around(self, layer: Any, rows: AdapterRows) -> "AdaptedLayer":
        """Returns the layer with its adapters for some rows."""
        return AdaptedLayer(layer, self, rows)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Applies the bottlenecks; requires `AdaptedLayer`."""
        x, rows = inputs, self._plain.current
        assert rows is not None
        for number, each in enumerate(self._plain.sets):
            if each.kind == BOTTLENECK and self._members[number]:
                x = bottleneck(x, self._members[number], rows.own[number])
        return x

    def _low_rank(self, name: str, inputs: tf.Tensor) -> tf.Tensor:
        """Returns what LoRA adds to the output of a dense layer."""
        rows = self._plain.current
        assert rows is not None
        # The only dense layers of a decoder that read the memory.
        index = rows.memory if name.endswith("/key_value") else rows.own
        terms = []
        for number, each in enumerate(self._plain.sets):
            if each.name in self._plain.dense_of[name]:
                pairs = [member.pair(name) for member in self._members[number]]
                terms.append(low_rank(inputs, pairs, index[number], each.alpha / each.size))
        return tf.add_n(terms)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


class AdaptedLayer:
    """A layer with its adapters, for a batch.

    Args:
        layer: a layer of a stack.
        adapters: its adapters.
        rows: which adapters the rows use.
    """

    def __init__(self, layer: Any, adapters: LayerAdapters, rows: AdapterRows) -> None:
        self._layer = layer
        self._adapters = adapters
        self._rows = rows
        self.name = layer.name

    @property
    def weights(self) -> list[Any]:
        """The weights of the layer and of its adapters."""
        return [*self._layer.weights, *self._adapters.weights]

    def __call__(self, *inputs: tf.Tensor, **options: Any) -> tf.Tensor:
        """Computes a whole sequence; the arguments are those of the layer."""
        with self._adapters._plain.using(self._rows):
            return self._adapters(self._layer(*inputs, **options))

    def start(self, *arguments: Any) -> Any:
        """Calls `start` of a decoder layer."""
        with self._adapters._plain.using(self._rows):
            return self._layer.start(*arguments)

    def step(self, *arguments: Any) -> Any:
        """Calls `step` of a decoder layer."""
        with self._adapters._plain.using(self._rows):
            x, cache = self._layer.step(*arguments)
            return self._adapters(x), cache


class _Untracked:
    """What Keras must not track as a part of the adapters, and the rows of the current call."""

    def __init__(self, layer: keras.layers.Layer, sets: Sequence[AdapterSet]) -> None:
        self.layer = layer
        self.sets = tuple(sets)
        self.dense_of: dict[str, list[str]] = {}
        self.current: AdapterRows | None = None

    def using(self, rows: AdapterRows) -> "_Using":
        return _Using(self, rows)


class _Using:
    """Sets the rows of the current call within a context."""

    def __init__(self, plain: _Untracked, rows: AdapterRows) -> None:
        self._plain, self._rows = plain, rows

    def __enter__(self) -> None:
        self._plain.current = self._rows

    def __exit__(self, *error: Any) -> None:
        self._plain.current = None


def dense_layers(layer: keras.layers.Layer) -> dict[str, Dense]:
    """Returns the dense layers of a built layer by name, such as `attention/qkv`."""
    found = {}
    for each in layer._flatten_layers(include_self=False):
        if isinstance(each, Dense):
            path = each.kernel.path.rpartition(f"/{layer.name}/")[2]
            found[path.removesuffix("/kernel")] = each
    return found


def make_layer_adapters(
    sets: Sequence[AdapterSet], stack: str, layers: Sequence[keras.layers.Layer], dtype: Any
) -> list[LayerAdapters]:
    """Creates the adapters of each layer of a stack; none if no set is of the stack."""
    if not any(stack in each.stacks and each.kind in _KINDS for each in sets):
        return []
    return [
        LayerAdapters(sets, stack, layer, dtype=dtype, name=f"adapters_{number}")
        for number, layer in enumerate(layers)
    ]
