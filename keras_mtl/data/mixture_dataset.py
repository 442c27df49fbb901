"""A mixture as a `tf.data.Dataset`; TensorFlow is imported when a dataset is made."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.mixture_batch import Batch, StaleIteratorError
from keras_mtl.data.packing import PackedShape
from keras_mtl.data.task_sources import ExampleSpec
from keras_mtl.errors import ConfigError

if TYPE_CHECKING:
    import tensorflow as tf


class BatchSource(Protocol):
    """The members of a `keras_mtl.data.mixture.Mixture` that a dataset uses."""

    spec: ExampleSpec
    application: str | None

    @property
    def buckets(self) -> Sequence[Bucket | PackedShape]: ...

    @property
    def step(self) -> int: ...

    def batches(
        self,
        start_step: int | None = None,
        rows: Callable[[int], np.ndarray] | None = None,
    ) -> Iterator[Batch]: ...

    def scales(self, step: int) -> np.ndarray: ...

    def end_iteration(self, step: int) -> None: ...


def make_dataset(
    mixture: BatchSource,
    start_step: int | None,
    steps: int | None,
    replicas: int,
    parts: range | None,
    map_fn: Callable[[dict[str, Any]], Any] | None,
    prefetch: int,
) -> "tf.data.Dataset":
    """Returns the dataset that `Mixture.dataset` describes."""
    parts = range(replicas) if parts is None else parts
    _check(mixture, start_step, steps, replicas, parts)
    import tensorflow as tf

    def rows_of_parts(rows: int) -> np.ndarray:
        # Each replica takes every R-th row, so empty rows, which come last, are shared.
        return np.arange(rows).reshape(-1, replicas)[:, parts.start : parts.stop].ravel()

    def elements() -> Iterator[dict[str, np.ndarray]]:
        begin = mixture.step if start_step is None else start_step
        end = None if steps is None else begin + steps
        batches = mixture.batches(begin, None if len(parts) == replicas else rows_of_parts)
        while True:
            try:
                batch = next(batches)
            except StaleIteratorError:
                # Usually in the background, for an iterator that is no longer read: an error would
                # print a traceback each time. If it is read, assert_cardinality raises an error.
                return
            weights = batch.weights()
            if mixture.application == "gradient":
                weights *= mixture.scales(batch.step).astype(np.float32)[batch.tasks]
            columns = {**batch.arrays, "task": batch.tasks, "weight": weights}
            last = batch.step + 1 == end
            for replica in parts:
                if last and replica == parts[-1]:
                    # Nothing is read after the last element, so the iteration ends here.
                    mixture.end_iteration(batch.step + 1)
                part = {name: column[replica::replicas] for name, column in columns.items()}
                yield {**part, "step": np.array(batch.step, np.int64)}
            if last:
                return

    rows: int | None = None
    of_row: tuple[int, ...] = ()
    shape = mixture.buckets[0]
    if isinstance(shape, PackedShape):  # The only shape; a row has several tasks and weights.
        rows, of_row = shape.rows // replicas, (shape.target_length,)
    signature = {
        name: tf.TensorSpec((rows, *shape), dtype) for name, (dtype, shape) in mixture.spec.items()
    }
    signature["task"] = tf.TensorSpec((rows, *of_row), tf.int32)
    signature["weight"] = tf.TensorSpec((rows, *of_row), tf.float32)
    signature["step"] = tf.TensorSpec((), tf.int64)
    dataset = tf.data.Dataset.from_generator(elements, output_signature=signature)
    dataset = dataset.apply(
        tf.data.experimental.assert_cardinality(
            tf.data.INFINITE_CARDINALITY if steps is None else steps * len(parts)
        )
    )
    if map_fn is not None:
        dataset = dataset.map(map_fn)
    if steps is not None:
        # Keras takes one element of an iteration to build a model and then begins again. An
        # iteration counts as finished when its last element is produced, so an iteration that is
        # abandoned after its first element must not produce the last one in the background.
        prefetch = min(prefetch, (steps - 2) * len(parts))
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    # There is nothing to tune, and deleting an iterator waits for the tuner's thread, which may
    # sleep for up to a minute.
    options.autotune.enabled = False
    if prefetch > 0:
        dataset = dataset.prefetch(prefetch)
    return dataset.with_options(options)


def _check(
    mixture: BatchSource, start_step: int | None, steps: int | None, replicas: int, parts: range
) -> None:
    """Raises ConfigError if arguments do not fit together, or do not fit the buckets."""
    if steps is not None and (steps < 2 or start_step is not None):
        raise ConfigError(
            f"dataset: steps is {steps} and start_step is {start_step}; give steps >= 2 without "
            "start_step (an iteration begins at the step of the mixture), or only start_step"
        )
    for bucket in mixture.buckets:
        if replicas < 1 or bucket.rows % replicas:
            raise ConfigError(
                f"dataset: the bucket of length {bucket.length} has {bucket.rows} rows, which "
                f"{replicas} replicas cannot share evenly; make buckets with a multiple_of that is "
                "a multiple of the number of replicas"
            )
    if not parts or parts.step != 1 or parts.start < 0 or parts.stop > replicas:
        raise ConfigError(
            f"dataset: parts is {parts}, but must be a range within range({replicas}), not empty"
        )
