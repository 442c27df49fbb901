"""Measures the engine with a model file: speed, memory, loading time. No TensorFlow."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Sequence
from concurrent import futures
from typing import NamedTuple

import numpy as np

from keras_mtl.engine import Engine, library
from keras_mtl.errors import InputError, KerasMtlError

_MIN_CALLS = 3


class Workload(NamedTuple):
    """The sentences to translate. Their ids are random, because time does not depend on them.

    Attributes:
        source_tokens: tokens of each sentence, without tag and end of sentence, >= 1.
        target_tokens: exact number of tokens of each translation, >= 1.
        beam_size: beam size, >= 1.
        seconds: duration of each measurement in seconds, > 0.
    """

    source_tokens: int
    target_tokens: int
    beam_size: int
    seconds: float


class Load(NamedTuple):
    """The configuration of an engine.

    Attributes:
        compute_type: `float32` or `int8`.
        workers: number of threads that share a call.
    """

    compute_type: str
    workers: int


class Measured(NamedTuple):
    """The measurements of one engine.

    Attributes:
        load: the configuration of the engine.
        isa: the instruction set.
        load_seconds: time to open the file until the engine can translate, in seconds.
        memory: peak memory minus the memory before loading, in bytes.
        tokens_per_second: target tokens per second by batch size; the median over calls.
    """

    load: Load
    isa: str
    load_seconds: float
    memory: int
    tokens_per_second: dict[int, float]


def measure(
    path: str | os.PathLike[str], load: Load, batch_sizes: Sequence[int], work: Workload
) -> Measured:
    """Measures one engine in a separate process, so that its memory can be measured.

    Args:
        path: the model file.
        load: the configuration of the engine.
        batch_sizes: numbers of sentences that each worker processes at once.
        work: the sentences to translate.

    Raises:
        ExportError: the file cannot be used.
        InputError: an argument is out of range.
        KerasMtlError: the system killed the process.
    """
    for name, value in (*work._asdict().items(), *(("batch size", b) for b in batch_sizes)):
        if not value > 0:
            raise InputError(f"{name}={value}: give a number above 0")
    context = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(1, context) as pool:
        call = pool.submit(_measure, os.fspath(path), load, tuple(batch_sizes), work)
        try:
            return call.result()
        except futures.process.BrokenProcessPool as error:
            raise KerasMtlError(
                f"the system killed the process that measured {load.compute_type} with "
                f"{load.workers} workers, probably because it ran out of memory. Use smaller "
                "--batch_sizes or fewer --workers"
            ) from error


def _measure(path: str, load: Load, batch_sizes: Sequence[int], work: Workload) -> Measured:
    library.core()
    before = _memory("VmRSS")
    start = time.perf_counter()
    engine = Engine(path, load.workers, compute_type=load.compute_type)
    load_seconds = time.perf_counter() - start
    positions = engine.hyperparameters["max_length"]
    longest = max(work.source_tokens + 2, work.target_tokens)
    if longest > positions:
        raise InputError(
            f"{work.source_tokens} source tokens (plus tag and end of sentence) or "
            f"{work.target_tokens} target tokens exceed the model's {positions} positions. Give "
            "fewer tokens"
        )
    speeds = {size: _speed(engine, load.workers, size, work) for size in batch_sizes}
    memory = _memory("VmHWM") - before
    return Measured(load, engine.isa, load_seconds, memory, speeds)


def _speed(engine: Engine, workers: int, batch_size: int, work: Workload) -> float:
    about = engine.hyperparameters
    generator = np.random.default_rng(0)
    # `not_text` has ids of targets.
    own = about.get("source_vocabulary_size")
    taken = [about["pad_id"], about["bos_id"], about["eos_id"]]
    taken += about["task_tags"] if own else about["not_text"]
    words = np.setdiff1d(np.arange(own or about["vocabulary_size"]), taken)
    tag = about["task_tags"][0]
    sources = [
        [tag, *generator.choice(words, work.source_tokens).tolist(), about["eos_id"]]
        for _ in range(batch_size * workers)
    ]
    options = {
        "beam_size": work.beam_size,
        "min_length": work.target_tokens,
        "max_length": work.target_tokens,
        "suppress": about["not_text"],
    }

    def call() -> float:
        start = time.perf_counter()
        engine.translate(sources, options, max_batch_size=batch_size)
        return time.perf_counter() - start

    call()  # Warm-up.
    seconds: list[float] = []
    while len(seconds) < _MIN_CALLS or sum(seconds) < work.seconds:
        seconds.append(call())
    return len(sources) * work.target_tokens / statistics.median(seconds)


def _memory(name: str) -> int:
    """Returns a line of `/proc/self/status` in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith(name))
    return int(line.split()[1]) * 1024
