"""``keras-mtl translate``: translates standard input line by line."""

import argparse
import sys
import time
from collections.abc import Iterator
from typing import IO, Any

from keras_mtl.cli.common import add_backend_arguments, backend_arguments, parse_options
from keras_mtl.errors import InputError

# Options of beam search with an argument of their own; --options takes all.
_OPTIONS = (
    ("beam_size", int, "live hypotheses of a sentence; 1 is greedy"),
    ("max_length", int, "most tokens of a translation"),
    ("min_length", int, "fewest tokens of a translation"),
    ("length_penalty", str, "none, power, gnmt, lingvo or constant"),
    ("alpha", float, "exponent of the length penalty"),
    ("patience", float, "end a sentence when beam_size * patience hypotheses are finished"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="PATH",
        help="model directory, exported model or engine file",
    )
    parser.add_argument("--task", required=True, help="name of the task, for example en-fr")
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint to read (default: the best, else newest)"
    )
    parser.add_argument(
        "--n_best",
        type=int,
        metavar="N",
        help="print N translations of each line: its number, score and text, with tabs between",
    )
    parser.add_argument(
        "--scores", action="store_true", help="print the score and a tab before each translation"
    )
    parser.add_argument(
        "--on_long_line",
        default="error",
        choices=["error", "truncate", "skip"],
        help="what to do with a line longer than the model's positions",
    )
    parser.add_argument("--batch_size", type=int, metavar="N", help="lines translated at once")
    parser.add_argument(
        "--chunk_lines",
        type=int,
        default=512,
        metavar="N",
        help="lines read before they are translated and printed",
    )
    add_backend_arguments(parser)
    group = parser.add_argument_group("beam search (default: task.decoding of the model)")
    for name, kind, text in _OPTIONS:
        group.add_argument(f"--{name}", type=kind, help=text)
    group.add_argument(
        "--options",
        default="",
        metavar="NAME=VALUE,...",
        help="any other option, for example no_repeat_ngram=3,repetition_penalty=1.1",
    )


def run(args: argparse.Namespace) -> int:
    """Translates standard input to standard output; speed goes to standard error."""
    if args.chunk_lines < 1:
        raise InputError(f"--chunk_lines {args.chunk_lines}: give at least 1")
    options = parse_options(args.options)
    options |= {name: value for name, *_ in _OPTIONS if (value := getattr(args, name)) is not None}
    if args.n_best is not None:
        options["num_hypotheses"] = args.n_best
    from keras_mtl.decoding.tasks import find_task
    from keras_mtl.export.translators import load_translator

    translator = load_translator(
        args.model,
        options,
        batch_size=args.batch_size,
        on_long_line=args.on_long_line,
        checkpoint=args.checkpoint,
        **backend_arguments(args),
    )
    find_task(translator.tasks, args.task)  # Before the first line is waited for.
    start, lines, tokens = time.perf_counter(), 0, 0
    for chunk in _chunks(sys.stdin.buffer, args.chunk_lines):
        found = translator.hypotheses(chunk, args.task, first_line=lines + 1)
        for number, hypotheses in enumerate(found, lines + 1):
            tokens += hypotheses[0].length
            for text in _shown(number, hypotheses, args):
                sys.stdout.buffer.write(text.encode() + b"\n")
        sys.stdout.buffer.flush()
        lines += len(chunk)
        seconds = time.perf_counter() - start
        print(
            f"{lines:,} lines, {tokens:,} tokens in {seconds:.1f} s: "
            f"{lines / seconds:.1f} lines/s, {tokens / seconds:.0f} tokens/s",
            file=sys.stderr,
            flush=True,
        )
    return 0


def _shown(number: int, hypotheses: list[Any], args: argparse.Namespace) -> Iterator[str]:
    """Yields the output lines of one input line."""
    if args.n_best is None:
        best = hypotheses[0]
        yield f"{best.score:.4f}\t{best.text}" if args.scores else best.text
        return
    for hypothesis in hypotheses:
        yield f"{number}\t{hypothesis.score:.4f}\t{hypothesis.text}"


def _chunks(stream: IO[bytes], size: int) -> Iterator[list[str]]:
    """Yields lists of at most ``size`` lines, without their ends.

    Raises:
      InputError: a line is not UTF-8; the lines before it have been yielded.
    """
    chunk: list[str] = []
    for number, line in enumerate(stream, 1):
        try:
            chunk.append(line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            if chunk:
                yield chunk
            raise InputError(
                f"standard input, line {number}: byte {error.start + 1} "
                f"(0x{line[error.start]:02x}) is not UTF-8; convert the text, for example with "
                "`iconv -f latin1 -t utf-8`"
            ) from error
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
