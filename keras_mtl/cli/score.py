"""``keras-mtl score``: log-probabilities of given translations."""

import argparse
import math
import sys
from collections.abc import Iterator
from itertools import islice, zip_longest
from typing import IO

from keras_mtl.cli.common import add_backend_arguments, backend_arguments
from keras_mtl.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "--model", required=True, metavar="PATH", help="model directory or engine file"
    )
    parser.add_argument("--task", required=True, help="name of the task, for example en-fr")
    parser.add_argument("--source", metavar="FILE", help="source text, a sentence a line")
    parser.add_argument("--target", metavar="FILE", help="their translations, line by line")
    parser.add_argument(
        "--tsv",
        metavar="FILE",
        help="instead of the two: source, a tab, translation on each line; - is standard input",
    )
    parser.add_argument(
        "--tokens", action="store_true", help="also print each token and its log-probability"
    )
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint to read (default: the best, else newest)"
    )
    parser.add_argument(
        "--batch_size", type=int, default=64, metavar="N", help="lines scored at once"
    )
    parser.add_argument(
        "--chunk_lines",
        type=int,
        default=512,
        metavar="N",
        help="lines read before they are scored and printed",
    )
    add_backend_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints log-probability and number of tokens of each line; a summary on standard error."""
    for name in ("batch_size", "chunk_lines"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: give at least 1")
    if bool(args.tsv) == bool(args.source or args.target) or bool(args.source) != bool(args.target):
        raise InputError("give --source and --target, or --tsv alone")
    from keras_mtl.decoding.tasks import find_task
    from keras_mtl.export.translators import load_scorer

    scorer = load_scorer(
        args.model,
        checkpoint=args.checkpoint,
        batch_size=args.batch_size,
        **backend_arguments(args),
    )
    find_task(scorer.tasks, args.task)
    pairs = _read_tsv(args.tsv) if args.tsv else _read_two(args.source, args.target)
    lines, tokens, total = 0, 0, 0.0
    while chunk := list(islice(pairs, args.chunk_lines)):
        sources, targets = zip(*chunk, strict=True)
        scores = scorer.score(sources, targets, args.task, first_line=lines + 1)
        pieces = scorer.pieces(targets) if args.tokens else [[]] * len(chunk)
        for row, names in zip(scores, pieces, strict=True):
            columns = [f"{math.fsum(row):.4f}", str(len(row))]
            columns += [f"{name} {value:.4f}" for name, value in zip(names, row, strict=False)]
            print("\t".join(columns))
            total += math.fsum(row)
        sys.stdout.flush()
        lines += len(chunk)
        tokens += sum(map(len, scores))
    if tokens:
        print(
            f"{lines:,} lines, {tokens:,} tokens, {total / tokens:.4f} a token, perplexity "
            f"{math.exp(min(-total / tokens, 700)):.2f}",
            file=sys.stderr,
        )
    return 0


def _read_two(source: str, target: str) -> Iterator[tuple[str, str]]:
    with open(source, "rb") as sources, open(target, "rb") as targets:
        pairs = zip_longest(_lines(sources, source), _lines(targets, target))
        for number, (left, right) in enumerate(pairs, 1):
            if left is None or right is None:
                shorter = source if left is None else target
                raise InputError(
                    f"{shorter} ends before line {number}: {source} and {target} must have the "
                    "same number of lines"
                )
            yield left, right


def _read_tsv(path: str) -> Iterator[tuple[str, str]]:
    file = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
    with file:
        for number, line in enumerate(_lines(file, path), 1):
            columns = line.split("\t")
            if len(columns) != 2:
                raise InputError(
                    f"{path}, line {number} has {len(columns)} columns; give source, a tab, "
                    "translation"
                )
            yield columns[0], columns[1]


def _lines(file: IO[bytes], name: str) -> Iterator[str]:
    """Yields lines without their ends."""
    for number, line in enumerate(file, 1):
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{name}, line {number}: byte {error.start + 1} (0x{line[error.start]:02x}) is not "
                "UTF-8; convert the text, for example with `iconv -f latin1 -t utf-8`"
            ) from error
