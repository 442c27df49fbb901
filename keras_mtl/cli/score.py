"""`keras-mtl score`: prints log-probabilities of given translations."""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from keras_mtl.cli import arguments
from keras_mtl.cli.common import (
    add_backend_arguments,
    backend_arguments,
    check_backend_arguments,
)
from keras_mtl.cli.lines import LineReader, chunks, finished_first
from keras_mtl.cli.streams import standard_input
from keras_mtl.errors import InputError

if TYPE_CHECKING:
    import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "--model", required=True, metavar="PATH", help="model directory or engine file"
    )
    parser.add_argument("--task", required=True, help="name of the task, for example en-fr")
    parser.add_argument("--source", metavar="FILE", help="source text, one sentence per line")
    parser.add_argument("--target", metavar="FILE", help="translations, one per line")
    parser.add_argument(
        "--tsv",
        metavar="FILE",
        help="instead of --source and --target: lines of source, tab, translation; - reads "
        "standard input",
    )
    parser.add_argument(
        "--tokens", action="store_true", help="also print each token and its log-probability"
    )
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint to use (default: the best or the newest)"
    )
    parser.add_argument(
        "--batch_size",
        type=arguments.positive_int,
        default=64,
        metavar="N",
        help="lines per batch",
    )
    parser.add_argument(
        "--chunk_lines",
        type=arguments.positive_int,
        default=512,
        metavar="N",
        help="maximum of lines scored and printed together; fewer if no more are available yet",
    )
    add_backend_arguments(parser)


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the files, the model and the task.

    Raises:
        ConfigError: a file cannot be read.
        InputError: two arguments are inconsistent, the path is not a model, or the task is unknown.
        CheckpointError: the checkpoint does not exist.
    """
    if bool(args.tsv) == bool(args.source or args.target) or bool(args.source) != bool(args.target):
        raise InputError("give --source and --target, or only --tsv")
    for name in ("source", "target", "tsv"):
        path = getattr(args, name)
        if path and (name, path) != ("tsv", "-"):
            arguments.check_input_file(f"--{name}", path)
    check_backend_arguments(args)
    arguments.check_model("--model", args.model, "a model directory or an engine file")
    arguments.check_checkpoint(args.checkpoint)
    arguments.check_task(args.model, args.task)


def run(args: argparse.Namespace) -> int:
    """Prints the log-probability and number of tokens of each line, and a summary on stderr."""
    from keras_mtl.decoding.translators import load_scorer

    pairs, has_more = _read_tsv(args.tsv) if args.tsv else _read_two(args.source, args.target)
    scorer = load_scorer(
        args.model,
        checkpoint=args.checkpoint,
        batch_size=args.batch_size,
        **backend_arguments(args),
    )
    arguments.note_zero_shot(scorer.tasks, args.task)

    def score(rows: Sequence[tuple[str, str]], first: int) -> "list[tuple[np.ndarray, list[str]]]":
        sources, targets = zip(*rows, strict=True)
        scores = scorer.score(sources, targets, args.task, first_line=first)
        pieces = scorer.pieces(targets) if args.tokens else [[]] * len(rows)
        return list(zip(scores, pieces, strict=True))

    lines, tokens, total = 0, 0, 0.0
    for chunk in chunks(pairs, args.chunk_lines, has_more):
        for _, found in finished_first(score, chunk, lines + 1):
            for row, names in found:
                columns = [f"{math.fsum(row):.4f}", str(len(row))]
                columns += [f"{name} {value:.4f}" for name, value in zip(names, row, strict=False)]
                sys.stdout.buffer.write("\t".join(columns).encode() + b"\n")
                total += math.fsum(row)
                tokens += len(row)
            sys.stdout.buffer.flush()
            lines += len(found)
    if tokens:
        print(
            f"{lines:,} lines, {tokens:,} tokens, {total / tokens:.4f} per token, perplexity "
            f"{math.exp(min(-total / tokens, 700)):.2f}",
            file=sys.stderr,
        )
    return 0


Pairs = tuple[Iterator[tuple[str, str]], Callable[[], bool]]
"""(source, translation) of each line, and whether the next one can be read without waiting."""


def _read_two(source: str, target: str) -> Pairs:
    # Open the files before the model is loaded, so that a missing file is reported immediately.
    sources, targets = open(source, "rb"), open(target, "rb")  # noqa: SIM115  closed by pairs()

    def pairs() -> Iterator[tuple[str, str]]:
        with sources, targets:
            both = zip_longest(LineReader(sources, source), LineReader(targets, target))
            for number, (left, right) in enumerate(both, 1):
                if left is None or right is None:
                    shorter = source if left is None else target
                    raise InputError(
                        f"{shorter} ends before line {number}: {source} and {target} must have the "
                        "same number of lines"
                    )
                yield left, right

    return pairs(), lambda: True


def _read_tsv(path: str) -> Pairs:
    file = standard_input() if path == "-" else open(path, "rb")  # noqa: SIM115  closed by pairs()
    name = "standard input" if path == "-" else path
    reader = LineReader(file, name)

    def pairs() -> Iterator[tuple[str, str]]:
        with file:
            for number, line in enumerate(reader, 1):
                columns = line.split("\t")
                if len(columns) != 2:
                    raise InputError(
                        f"{name}, line {number} has {len(columns)} columns. Give two columns: "
                        "source, tab, translation"
                    )
                yield columns[0], columns[1]

    return pairs(), reader.has_more
