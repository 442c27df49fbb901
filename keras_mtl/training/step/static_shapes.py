"""One static shape for each bucket: what a compiled training step needs.

The batches of a dataset have one of a few shapes, and the dataset's specification hides which. A
TPU bounds a dimension that is not static, and operations such as dropout then do not compile. So
the step branches on the host, and each branch hands the devices a batch of one known shape.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_mtl.training.step.batches import columns_of

# No padding to a bound and no bounded dimensions: all shapes are static.
_OPTIONS = tf.distribute.RunOptions(experimental_enable_dynamic_batch_size=False)


class StaticShapes:
    """The shapes of batches, and runs of a function with each shape in its own program.

    Args:
        strategy: the strategy.
        shapes: (rows of a replica, length) of each bucket, by strictly increasing length.
    """

    def __init__(self, strategy: tf.distribute.Strategy, shapes: Sequence[tuple[int, int]]) -> None:
        self.shapes = tuple(shapes)
        self._strategy = strategy

    def mark(self, element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Adds the index of its bucket, int32 [], to an element of a dataset."""
        lengths = [length for _, length in self.shapes]
        length = tf.shape(element["source"])[1]
        return {**element, "bucket": tf.searchsorted(lengths, length[None])[0]}

    @tf.autograph.experimental.do_not_convert
    def run(self, function: Callable[..., None], batch: dict[str, Any], *args: Any) -> None:
        """Calls a function on all replicas with their batch, whose shape is static.

        Args:
            function: gets the replica's batch, a dict of what devices read, and `args`; it returns
                nothing and has its effect on variables.
            batch: an element of a distributed dataset of marked elements. If there is only one
                shape, it need not be marked.
            args: further arguments, equal on all replicas.
        """
        branches = [
            functools.partial(self._run_shape, function, batch, args, shape)
            for shape in self.shapes
        ]
        if len(branches) == 1:
            branches[0]()
            return
        # All replicas have batches of one bucket.
        bucket = self._strategy.experimental_local_results(batch["bucket"])[0]
        tf.switch_case(bucket, branches)

    def _run_shape(
        self,
        function: Callable[..., None],
        batch: dict[str, Any],
        args: tuple[Any, ...],
        shape: tuple[int, int],
    ) -> tf.Tensor:
        static = {
            name: tf.nest.map_structure(
                functools.partial(_ensure, shape), column, expand_composites=True
            )
            for name, column in columns_of(batch).items()
        }
        self._strategy.run(function, args=(static, *args), options=_OPTIONS)
        return tf.constant(0)  # A branch has to return something.


def _ensure(shape: tuple[int, int], value: tf.Tensor) -> tf.Tensor:
    """Sets the unknown dimensions of a tensor: the first to the rows, others to the length."""
    rows, length = shape
    dims = [
        size if size is not None else length if axis else rows
        for axis, size in enumerate(value.shape)
    ]
    return tf.ensure_shape(value, dims)
