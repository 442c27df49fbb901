"""The processes that train one model together, and how they agree on values.

Each process of a `tf.distribute.MultiWorkerMirroredStrategy` runs the same program. The processes
must take the same decisions at the same step, because a collective operation waits until every
process takes part in it. Whatever depends on time, signals or files is therefore exchanged.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context as tf_context

from keras_mtl.errors import KerasMtlError, WorkerError
from keras_mtl.interrupts import StopRequest, signal_name

T = TypeVar("T")

# Errors of a process itself. Others may be consequences of the end of another worker.
_OWN_ERRORS = (
    tf.errors.DataLossError,
    tf.errors.InvalidArgumentError,
    tf.errors.ResourceExhaustedError,
    tf.errors.UnknownError,  # An exception of Python in tf.data.
)

# Bytes that the first of two collective operations carries; most values need no second one.
_SHORT = 256
_LENGTH_BYTES = 4

# Surrounds what a worker reports, within the message of TensorFlow's error.
_REPORT = "<keras_mtl: {}>"
_REPORTED = re.compile(_REPORT.format("(.*?)"), re.DOTALL)


class Workers:
    """The processes of a run. Every process calls the same methods in the same order.

    With one process every method returns at once.

    Args:
        strategy: the strategy that the processes share.

    Attributes:
        strategy: the same.
        count: int >= 1, number of processes.
        index: int in [0, count), index of this process.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        self._agreed: Exception | None = None
        self.count, self.index = 1, 0
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            names = [
                (kind, task)
                for kind in ("chief", "worker")
                for task in range(len(resolver.cluster_spec().as_dict().get(kind, ())))
            ]
            if len(names) > 1:
                self.count = len(names)
                self.index = names.index((resolver.task_type, resolver.task_id))

    @property
    def chief(self) -> bool:
        """Whether this process is the first, which writes the files of the run."""
        return self.index == 0

    def exchange(self, value: Any) -> list[Any]:
        """Returns the values of all processes, in their order.

        Args:
            value: the value of this process; anything that JSON can hold. Floats keep their bits.

        Raises:
            WorkerError: another process has ended.
        """
        if self.count == 1:
            return [value]
        data = json.dumps(value).encode()
        head = len(data).to_bytes(_LENGTH_BYTES, "little") + data
        heads = self._gather(head[:_SHORT], _SHORT)
        lengths = [int.from_bytes(row[:_LENGTH_BYTES], "little") for row in heads]
        longest = max(lengths)
        if longest + _LENGTH_BYTES <= _SHORT:
            contents = [row[_LENGTH_BYTES:] for row in heads]
        else:
            contents = self._gather(data, longest)
        return [
            json.loads(content[:length]) for content, length in zip(contents, lengths, strict=True)
        ]

    def of_chief(self, value: T) -> T:
        """Returns the chief's value, on every process."""
        return self.exchange(value if self.chief else None)[0] if self.count > 1 else value

    def on_chief(self, compute: Callable[[], T]) -> T | None:
        """Calls a function on the chief while the others wait; returns None on the others.

        Args:
            compute: the function. If it raises, every process raises.

        Raises:
            WorkerError: on the other processes, the function raised on the chief.
        """
        return self.together(compute if self.chief else None)

    def from_chief(self, compute: Callable[[], T]) -> T:
        """As `on_chief`, and returns the chief's result, which JSON can hold, on every process."""
        return self.of_chief(self.on_chief(compute))  # type: ignore[return-value]

    def chief_first(self, compute: Callable[[], T]) -> T:
        """Calls a function on the chief, then on the others, which may find what the chief made.

        Args:
            compute: the function. If it raises in one process, every process raises.

        Raises:
            WorkerError: the function raised in another process.
        """
        result = self.on_chief(compute)
        if self.count > 1:
            later = self.together(None if self.chief else compute)
            result = result if self.chief else later
        return result  # type: ignore[return-value]

    def check_same(self, what: str, value: Any) -> None:
        """Checks that a value is the same in all processes.

        Args:
            what: names the value in the error.
            value: anything that JSON can hold.

        Raises:
            WorkerError: it is not.
        """
        if self.count == 1:
            return
        values = self.exchange(value)
        for index, other in enumerate(values):
            for path, first, own in _differences(what, values[0], other):
                raise WorkerError(
                    f"{path} is {own!r} on worker {index} and {first!r} on worker 0; give all "
                    "workers the same configuration, data, model directory and software, on "
                    "machines of one kind"
                )

    def barrier(self) -> None:
        """Waits for all processes."""
        self.exchange(None)

    def together(self, compute: Callable[[], T] | None) -> T | None:
        """Calls a function on every process where it is not None, and returns its result.

        Args:
            compute: the function. If it raises in one process, every process raises.

        Raises:
            WorkerError: the function raised in another process.
        """
        if self.count == 1:
            return compute() if compute else None
        result, error, text = None, None, ""
        if compute:
            try:
                result = compute()
            except Exception as raised:
                error, text = raised, str(raised) or type(raised).__name__
        texts = self.exchange(text)
        if error:
            self._agreed = error
            raise error
        for index, other in enumerate(texts):
            if other:
                raise WorkerError(f"worker {index} failed: {other}")
        return result

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Reports an error that ends the context on this process to the others.

        Their next collective operation fails with it. Nothing is reported if they know: if the
        error was raised in `together`, or is a consequence of another process' error.

        Raises:
            WorkerError: a collective operation failed in the context, because another process has
                ended or reported an error.
        """
        try:
            yield
        except tf.errors.OpError as error:
            if self.count == 1:
                raise
            if isinstance(error, _OWN_ERRORS):
                self._report(error)
                raise
            raise lost(error) from error
        except SystemExit:
            raise
        except BaseException as error:
            if error is not self._agreed and not isinstance(error, WorkerError):
                self._report(error)
            raise

    def _report(self, error: BaseException) -> None:
        if self.count > 1:
            text = str(error).strip() or type(error).__name__
            text = _REPORT.format(f"worker {self.index} failed: {text[:1000]}")
            # If the others have ended, nobody can be told.
            with contextlib.suppress(tf.errors.OpError):
                tf_context.context().report_error_to_cluster(tf.errors.FAILED_PRECONDITION, text)

    def _gather(self, data: bytes, size: int) -> list[bytes]:
        """Returns up to `size` bytes of every process."""
        # Float32 holds a byte exactly, and every kind of collective operation can sum it.
        own = np.zeros((self.count, size), np.float32)
        own[self.index, : len(data)] = np.frombuffer(data, np.uint8)
        replicas = self.strategy.num_replicas_in_sync // self.count

        def part(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            first = context.replica_id_in_sync_group == self.index * replicas
            return tf.constant(own if first else np.zeros_like(own))

        values = self.strategy.experimental_distribute_values_from_function(part)
        try:
            rows = self.strategy.reduce("SUM", values, axis=None).numpy()
        except tf.errors.OpError as error:
            raise lost(error) from error
        return [row.astype(np.uint8).tobytes() for row in rows]


def _differences(path: str, first: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields the places where two values differ, and what is there."""
    if isinstance(first, dict) and isinstance(other, dict):
        for key in {**first, **other}:
            yield from _differences(f"{path}: {key}", first.get(key), other.get(key))
    elif first != other:
        yield path, first, other


class AgreedStop:
    """Whether any process was asked to stop. All processes ask it at the same places.

    Args:
        workers: the processes.
        request: the request to this process.

    Attributes:
        request: the same; it may be asked at any time, by this process only.
        signal: number of the signal that all know of; 0 before.
    """

    def __init__(self, workers: Workers, request: StopRequest):
        self._workers = workers
        self.request = request
        self.signal = 0

    def __call__(self) -> bool:
        """Asks all processes; a collective operation."""
        if not self.signal:
            self.signal = max(self._workers.exchange(self.request.signal))
        return bool(self.signal)

    @property
    def name(self) -> str:
        """Name of the signal, for example SIGTERM; empty before it comes."""
        return signal_name(self.signal)


def lost(error: tf.errors.OpError) -> KerasMtlError:
    """Returns the error to raise if a collective operation failed."""
    if reported := _REPORTED.search(str(error.message)):
        return WorkerError(reported.group(1))
    reason = str(error.message).strip().splitlines()[0][:300]
    return WorkerError(
        f"a worker has ended or cannot be reached ({reason}); its own log says why. Start all "
        "workers again with the same commands: they resume from the last checkpoint"
    )
