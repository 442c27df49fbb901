"""Validation in a separate thread, while training continues."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

from keras_mtl.evaluation.results import TaskResult

Results = Mapping[str, TaskResult]

# Interval at which `result` checks whether to stop waiting.
_SECONDS_BETWEEN_LOOKS = 0.2


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

    def result(self, stopped: Callable[[], bool] | None = None) -> tuple[Results, float] | None:
        """Waits for the end of the evaluation.

        Args:
            stopped: called often; returns whether to stop waiting. None always waits.

        Returns:
            The result of each task and the seconds spent waiting. None if `stopped` returned True;
            the evaluation then continues.

        Raises:
            Exception: the exception that the evaluation raised.
        """
        if self._future is None:
            raise RuntimeError("no evaluation is running")
        begin = time.perf_counter()
        future = self._future
        while not wait([future], timeout=_SECONDS_BETWEEN_LOOKS).done:
            if stopped is not None and stopped():
                return None
        self._future = None
        return future.result(), time.perf_counter() - begin

    def stop(self) -> None:
        """Stops the evaluation at its next check and discards its result."""
        self._stop.set()
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        self._thread = self._future = None
