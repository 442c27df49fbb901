"""Stacks of a model of which tasks have their own copies.

All rows of a batch use the same copies. The first copy of each stack computes with the weights of
the copies that the batch uses, so one program serves all tasks, and compile time does not grow with
their number.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import keras
import tensorflow as tf

from keras_mtl.configuration.adapters import split_route
from keras_mtl.errors import InputError

_Result = TypeVar("_Result")

SOURCE = ("encoder", "embeddings", "source_embedding")
"""Stacks that read the source."""

TARGET = ("decoder", "embeddings", "target_embedding", "projection")
"""Stacks that read or predict the target."""


class StackCopies:
    """The copies of each stack of a model.

    Args:
        model: the model, whose attributes the copies become, for checkpoints.
        members: the names of the copies of each stack that has several, by stack. The order of the
            stacks is that of the digits of a route; see `indices`.
    """

    def __init__(self, model: keras.Model, members: Mapping[str, Sequence[str]]) -> None:
        self._model = model
        self._members = dict(members)
        self._copies: dict[str, list[Any]] = {}

    def make(self, stack: str, name: str, create: Callable[[str], Any]) -> Any:
        """Creates the copies of a stack.

        Args:
            stack: the stack.
            name: name of its layer.
            create: takes the name of a layer and creates it.

        Returns:
            The first copy.
        """
        members = self._members.get(stack, ())
        layers = [create(f"{name}_{member}") for member in members] or [create(name)]
        # tf.train.Checkpoint tracks attributes but, with Keras 3, not the members of a list.
        for i, layer in enumerate(layers[1:], 1):
            setattr(self._model, f"{name}_copy_{i}", layer)
        self._copies[stack] = layers
        return layers[0]

    def add(self, stack: str, layers: Sequence[Any]) -> None:
        """Registers the copies of a stack that the model has made."""
        self._copies[stack] = list(layers)

    def of(self, stack: str) -> list[Any]:
        """Returns the copies of a stack; empty if the model does not have the stack."""
        return self._copies.get(stack, [])

    def several(self) -> dict[str, list[Any]]:
        """Returns the copies of the stacks that have several."""
        return {stack: self._copies[stack] for stack in self._several(self._copies)}

    def build(self, stack: str, *shapes: Any) -> None:
        """Builds the copies of a stack."""
        for layer in self.of(stack):
            layer.build(*shapes)

    def differ(self, stacks: Sequence[str]) -> bool:
        """Returns whether tasks have their own copies of some of the stacks."""
        return bool(self._several(stacks))

    def select(self, stacks: Sequence[str], route: tf.Tensor | None) -> list[tf.Tensor] | None:
        """Returns the weights that a batch uses.

        Args:
            stacks: the stacks, `SOURCE` or `TARGET`.
            route: int32 of any shape, equal everywhere; see `indices`.

        Returns:
            The weights, frozen ones too, of the stacks of which there are several copies, in their
            order; None if there are none.

        Raises:
            InputError: there are several copies, but no route.
        """
        several = self._several(stacks)
        if not several:
            return None
        if route is None:
            raise InputError(
                f"the model has {self._counted(several)}, but inputs['decoder'] is missing; give "
                "keras_mtl.decoding.tasks.TranslationTask.route of the task of each row"
            )
        indices = self.indices(tf.reshape(route, [-1])[0])
        return [
            weight
            for stack in several
            for weight in _weights_of(self._copies[stack], indices[stack])
        ]

    def indices(self, route: Any) -> dict[str, Any]:
        """Returns the index of the copy of each stack that a route stands for.

        Args:
            route: from `keras_mtl.configuration.adapters.route_of`, without the digits of adapters:
                the index of the decoder, and a digit for each other stack with several copies.
        """
        others = [stack for stack in self._members if stack != "decoder"]
        decoder, rest = split_route(route, [len(self._members[stack]) for stack in others])
        return {"decoder": decoder, **dict(zip(others, rest, strict=True))}

    def call(
        self,
        stacks: Sequence[str],
        weights: Sequence[tf.Tensor] | None,
        generator: keras.random.SeedGenerator,
        function: Callable[[], _Result],
    ) -> _Result:
        """Calls a function, in which the first copies have other weights.

        Args:
            stacks: as for `select`.
            weights: from `select`; None keeps the weights of the first copies.
            generator: the generator of dropout, whose state advances.
            function: what to call.
        """
        if weights is None:
            return function()
        variables = [
            variable
            for stack in self._several(stacks)
            for variable in self._copies[stack][0].weights
        ]
        with keras.StatelessScope(
            state_mapping=list(zip(variables, weights, strict=True))
        ) as scope:
            outputs = function()
        # The scope also holds back the state of dropout, which must advance.
        state = generator.state
        drawn = scope.get_current_value(state)
        if drawn is not None:
            state.assign(drawn)
        return outputs

    def decoder_owners(self, variables: Sequence[Any]) -> list[int | None]:
        """Returns the index of the only decoder that uses each variable, or None."""
        several = self._copies["decoder"] if self.differ(["decoder"]) else []
        owner = {
            id(variable): index
            for index, decoder in enumerate(several)
            for variable in decoder.trainable_variables
        }
        return [owner.get(id(variable)) for variable in variables]

    def users(
        self, variables: Sequence[Any], routes: Sequence[int], counts: Sequence[int]
    ) -> list[list[bool] | None]:
        """Returns which tasks use each variable; see `keras_mtl.training.step.adapter_users`.

        Args:
            variables: trainable variables of the model.
            routes: `TranslationTask.route` of each task.
            counts: number of adapters of each set.

        Returns:
            For each variable a list with an entry for each task; None if all tasks use it. The
            variables of decoders have None, too: `Transformer.variable_decoder_index` is theirs.
        """
        chosen = [self.indices(split_route(route, counts)[0]) for route in routes]
        rows = {
            id(variable): [each[stack] == index for each in chosen]
            for stack in self._several(self._copies)
            if stack != "decoder"
            for index, layer in enumerate(self._copies[stack])
            for variable in layer.trainable_variables
        }
        return [rows.get(id(variable)) for variable in variables]

    def _several(self, stacks: Sequence[str] | Mapping[str, Any]) -> list[str]:
        return [stack for stack in stacks if len(self.of(stack)) > 1]

    def _counted(self, stacks: Sequence[str]) -> str:
        nouns = {"decoder": "decoders", "encoder": "encoders"}
        return " and ".join(
            f"{len(self._copies[stack])} {nouns.get(stack, f'copies of {stack}')}"
            for stack in stacks
        )


def _weights_of(layers: Sequence[Any], index: tf.Tensor) -> list[tf.Tensor]:
    """Returns the weights of the layer with an index; the layers have equal structure."""
    values = [[tf.convert_to_tensor(variable) for variable in layer.weights] for layer in layers]
    branches = [lambda chosen=chosen: [tf.identity(v) for v in chosen] for chosen in values]
    return tf.switch_case(index, branches)
