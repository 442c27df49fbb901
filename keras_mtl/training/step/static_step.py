"""The programs of a compiled update, each of static shapes."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import tensorflow as tf

from keras_mtl.training.step.accumulation import Accumulator
from keras_mtl.training.step.static_shapes import StaticShapes


class ReplicaStep(Protocol):
    """What a replica does in an update; `MultiTaskTrainer` describes each."""

    accumulation: int

    @property
    def looks_back(self) -> bool: ...

    def accumulated_specs(self) -> Any: ...

    def sums_specs(self) -> Any: ...

    def replica_step(self, batches: Sequence[dict[str, tf.Tensor]]) -> None: ...

    def part_of_update(self, batch: dict[str, tf.Tensor], number: tf.Tensor) -> Any: ...

    def update(self, gradients: Any, sums: Any, tasks: tf.Tensor) -> Any: ...

    def sums_after(self, batch: dict[str, tf.Tensor]) -> Any: ...

    def look_back(self, outcome: Any, sums: Any) -> None: ...


class StaticStep:
    """An update as one program for each bucket, or with accumulation as one more.

    An update of one batch is one program. With accumulation, each batch runs the program of its
    bucket, which adds to sums that the replicas keep, and a last program makes the update: programs
    for all combinations of buckets would be too many.

    Args:
        strategy: the strategy.
        replica: what a replica does.
        shapes: (rows of a replica, length) of each bucket, by strictly increasing length.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        replica: ReplicaStep,
        shapes: Sequence[tuple[int, int]],
    ) -> None:
        self.shapes = StaticShapes(strategy, shapes)
        self._strategy = strategy
        self._replica = replica
        if replica.accumulation > 1:
            self._parts = Accumulator(strategy, replica.accumulated_specs())
            if replica.looks_back:
                self._sums = Accumulator(strategy, replica.sums_specs())

    def run(self, iterator: Any) -> None:
        """Makes the update of the iterator's next batches."""
        replica, shapes = self._replica, self.shapes
        if replica.accumulation == 1:
            shapes.run(self.one_batch, next(iterator))
        elif replica.looks_back:
            # The batches are read a second time, so they are kept, and each has its own programs.
            batches = [next(iterator) for _ in range(replica.accumulation)]
            for number, batch in enumerate(batches):
                shapes.run(self.part, batch, tf.constant(number))
            outcome = self._strategy.run(self.update)
            for batch in batches:
                shapes.run(self.after, batch)
            self._strategy.run(self.look_back, args=(outcome,))
        else:

            def add(number: tf.Tensor) -> tuple[tf.Tensor]:
                shapes.run(self.part, next(iterator), number)
                return (number + 1,)

            count = replica.accumulation
            tf.while_loop(lambda number: number < count, add, [tf.constant(0)])
            self._strategy.run(self.update)

    def programs(self, batch: dict[str, tf.Tensor]) -> dict[str, tuple[Callable[..., Any], Any]]:
        """Returns what runs on a replica for batches of one shape.

        It is for looking at the programs; arguments other than the batch are zero.

        Args:
            batch: a batch of that shape.

        Returns:
            By name, the function and its arguments. An update of one batch is `one_batch`. With
            accumulation it is `part` for each batch, `update` and, for methods of balancing that
            look back, `after` for each batch and `look_back`.
        """
        if self._replica.accumulation == 1:
            return {"one_batch": (self.one_batch, (batch,))}
        found: dict[str, tuple[Callable[..., Any], Any]] = {
            "part": (self.part, (batch, tf.constant(0))),
            "update": (self.update, ()),
        }
        if self._replica.looks_back:
            found["after"] = (self.after, (batch,))
            traced = tf.function(
                lambda: self._strategy.run(self.update), autograph=False
            ).get_concrete_function()
            outcome = tf.nest.map_structure(
                lambda value: tf.zeros(value.shape, value.dtype), traced.structured_outputs
            )
            found["look_back"] = (self.look_back, (outcome,))
        return found

    def one_batch(self, batch: dict[str, tf.Tensor]) -> None:
        """Makes an update of one batch, in a replica's context."""
        self._replica.replica_step([batch])

    def part(self, batch: dict[str, tf.Tensor], number: tf.Tensor) -> None:
        """Adds a batch to the sums.

        Args:
            batch: the replica's batch.
            number: int32 [], the number of the batch in its update.
        """
        self._parts.add(self._replica.part_of_update(batch, number))

    def update(self) -> Any:
        """Makes the update from the sums; returns what looking back needs."""
        return self._replica.update(*self._parts.take())

    def after(self, batch: dict[str, tf.Tensor]) -> None:
        """Adds the losses of a batch after the update."""
        self._sums.add(self._replica.sums_after(batch))

    def look_back(self, outcome: Any) -> None:
        """Learns from the losses after the update."""
        self._replica.look_back(outcome, self._sums.take())
