"""Measures `keras-mtl prepare` with several processes against one, on the same corpora.

    python benchmarks/prepare.py                                  # generated text, 200,000 pairs
    python benchmarks/prepare.py --file en-de.tsv.gz en-fr.tsv.gz  # a task for each file

Runs with 1 and N processes alternate; all must write identical files. The vocabulary is given,
because SentencePiece trains it in one process with threads of its own, whatever N is; its time is
measured once. Prints medians of two clocks: elapsed time, which other programs of the machine
disturb, and CPU time. From the latter follows the ratio on idle cores: the CPU time of one process
divided by that of the main process plus the mean of the others, which work at the same time.
"""

import argparse
import filecmp
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from keras_mtl.configuration.schema import CorpusConfig, DataConfig, PairConfig, VocabularyConfig
from keras_mtl.data.corpora import BadLine, create_reader
from keras_mtl.data.prepare import prepare


class Clocks(NamedTuple):
    """Elapsed seconds, CPU seconds of the main process and of the others, and their peak MB."""

    elapsed: float
    main: float
    others: float
    peak: tuple[float, float]


def measured(function: Callable[[], Any]) -> Clocks:
    """Calls a function in a new process and measures it."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def call() -> None:
        begin, cpu = time.perf_counter(), time.process_time()
        function()
        elapsed, main = time.perf_counter() - begin, time.process_time() - cpu
        own, others = (
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        peak = own.ru_maxrss / 1024, others.ru_maxrss / 1024
        sender.send(Clocks(elapsed, main, others.ru_utime + others.ru_stime, peak))

    process = context.Process(target=call)
    process.start()
    sender.close()
    clocks = receiver.recv()
    process.join()
    return clocks


def generated(directory: str, pairs: int) -> str:
    """Writes pairs of the built-in corpus to a file."""
    path = os.path.join(directory, "en-fr.tsv")
    reader = create_reader("cldr", "en", "fr", {"pairs": pairs})
    with open(path, "w", encoding="utf-8") as file:
        for number, pair in enumerate(reader):
            if not isinstance(pair, BadLine):
                # The corpus repeats itself.
                file.write(f"{pair.source} {number}\t{pair.target} {number}\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", nargs="*", default=[], help="TSV files, named en-XX.tsv...")
    parser.add_argument("--pairs", type=int, default=200_000, help="pairs of generated text")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vocabulary_size", type=int, default=8000)
    parser.add_argument("--model_file", default="", help="vocabulary; empty trains one first")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        files = args.file or [generated(directory, args.pairs)]
        tasks = []
        for path in files:
            target = os.path.basename(path).partition(".")[0].partition("-")[2].replace("_", "-")
            corpora = [CorpusConfig("tsv", {"file": os.path.abspath(path)})]
            tasks.append(PairConfig(f"en-{target}", "en", target, corpora))

        def run(name: str, processes: int, model: str) -> Clocks:
            vocabulary = VocabularyConfig(size=args.vocabulary_size, model_file=model)
            data, place = DataConfig(vocabulary=vocabulary), os.path.join(directory, name)
            shutil.rmtree(place, ignore_errors=True)
            return measured(
                lambda: prepare(tasks, place, data, processes=processes, log=lambda line: None)
            )

        model = args.model_file or os.path.join(directory, "first", "vocabulary.model")
        first = None if args.model_file else run("first", 1, "")
        clocks: dict[int, list[Clocks]] = {1: [], args.processes: []}
        for _ in range(args.rounds):
            for processes, found in clocks.items():
                found.append(run(f"with{processes}", processes, model))
            one, several = (os.path.join(directory, f"with{number}") for number in clocks)
            same = filecmp.cmpfiles(one, several, os.listdir(one), shallow=False)
            assert not same[1] + same[2], f"files differ: {same[1:]}"
        report(first, clocks, args.processes)


def report(first: Clocks | None, clocks: dict[int, list[Clocks]], processes: int) -> None:
    """Prints the medians and ratios."""
    for number, found in clocks.items():
        elapsed, main, others = (
            statistics.median(values) for values in list(zip(*found, strict=True))[:3]
        )
        peaks = [max(values) for values in zip(*(each.peak for each in found), strict=True)]
        print(
            f"{number} processes: elapsed {elapsed:6.2f} s, CPU of the main process {main:6.2f} s, "
            f"of the others {others:6.2f} s; peak {peaks[0]:.0f} MB and {peaks[1]:.0f} MB"
        )
    pairs = list(zip(clocks[1], clocks[processes], strict=True))
    elapsed = statistics.median(one.elapsed / several.elapsed for one, several in pairs)
    idle = statistics.median(
        one.main / (several.main + several.others / processes) for one, several in pairs
    )
    print(f"ratio of elapsed times {elapsed:.2f}; on idle cores, from CPU times, {idle:.2f}")
    if first is not None:
        training = first.main - statistics.median(each.main for each in clocks[1])
        print(f"training the vocabulary: {training:.1f} s of CPU time, the same with any number")


if __name__ == "__main__":
    main()
