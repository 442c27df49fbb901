"""Validation in a separate thread, while training continues."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

from keras_mtl.evaluation.results import TaskResult

Results = Mapping[str, TaskResult]


class BackgroundEvaluation:
    """Runs one evaluation at a time in a thread.

    The engine computes without Python's global interpreter lock. The parts in Python (tokenization,
    BLEU and chrF) share the lock with the input pipeline.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._future: Future[Results] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def start(self, evaluate: Callable[[Callable[[], bool]], Results]) -> None:
        """Starts an evaluation.

        Args:
            evaluate: called in the thread with a function that returns whether to stop. Returns the
                result of each task.
        """
        if self._future is not None:
            raise RuntimeError("an evaluation is running")
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="keras_mtl-validation")
        self._stop.clear()
        self._future = self._thread.submit(evaluate, self._stop.is_set)

    def wait(self, seconds: float) -> bool:
        """Waits for the end of the evaluation, if one is running, at most for some seconds.

        Returns:
            Whether no evaluation is running.
        """
        return self._future is None or bool(wait([self._future], timeout=seconds).done)

    def failed(self) -> bool:
        """Returns whether the evaluation has ended with an exception."""
        future = self._future
        return future is not None and future.done() and future.exception() is not None

    def result(self) -> Results:
        """Returns the result of each task of an evaluation that has ended; empty if none started.

        Raises:
            Exception: the exception that the evaluation raised.
        """
        future, self._future = self._future, None
        return {} if future is None else future.result()

    def stop(self) -> None:
        """Stops the evaluation at its next check and discards its result."""
        self._stop.set()
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        self._thread = self._future = None
