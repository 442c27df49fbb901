"""`keras-mtl translate`: translates standard input line by line."""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl.cli import arguments
from keras_mtl.cli.common import (
    add_backend_arguments,
    backend_arguments,
    check_backend_arguments,
    parse_options,
)
from keras_mtl.cli.lines import LineReader, chunks, finished_first
from keras_mtl.cli.streams import standard_input
from keras_mtl.errors import InputError

if TYPE_CHECKING:
    from keras_mtl.engine import Hypothesis

# Beam-search options with their own argument. --options accepts all options.
_OPTIONS = (
    ("beam_size", int, "number of live hypotheses per sentence; 1 is greedy search"),
    ("max_length", int, "maximum of tokens in a translation"),
    ("min_length", int, "minimum of tokens in a translation"),
    ("length_penalty", str, "none, power, gnmt, lingvo or constant"),
    ("alpha", float, "exponent of the length penalty"),
    ("patience", float, "a sentence ends after beam_size * patience finished hypotheses"),
)

_METAVARS = {int: "N", float: "X", str: "NAME"}

_SECONDS_BETWEEN_SPEEDS = 10.0


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
        "--checkpoint", metavar="PATH", help="checkpoint to use (default: the best or the newest)"
    )
    parser.add_argument(
        "--n_best",
        type=arguments.positive_int,
        metavar="N",
        help="print N translations of each line as line number, tab, score, tab, text",
    )
    parser.add_argument(
        "--scores", action="store_true", help="print the score and a tab before each translation"
    )
    parser.add_argument(
        "--output",
        default="text",
        choices=["text", "jsonl"],
        help="format; jsonl prints one JSON object per line with all hypotheses: text, scores, "
        "tokens and their log-probabilities",
    )
    parser.add_argument(
        "--alignments",
        action="store_true",
        help="with --output jsonl: also print the attention of each token to the source",
    )
    parser.add_argument(
        "--on_long_line",
        default="error",
        choices=["error", "truncate", "skip"],
        help="for a line longer than the model's positions: stop with an error after the lines "
        "before it, translate its beginning, or print an empty translation",
    )
    parser.add_argument(
        "--batch_size",
        type=arguments.positive_int,
        metavar="N",
        help="lines per batch (default: task.decoding.batch_size or 64)",
    )
    parser.add_argument(
        "--chunk_lines",
        type=arguments.positive_int,
        default=512,
        metavar="N",
        help="maximum of lines translated and printed together; fewer if no more are available yet",
    )
    add_backend_arguments(parser)
    group = parser.add_argument_group("beam search (default: task.decoding of the model)")
    for name, kind, text in _OPTIONS:
        group.add_argument(f"--{name}", type=kind, metavar=_METAVARS[kind], help=text)
    group.add_argument(
        "--options",
        default="",
        metavar="NAME=VALUE,...",
        help="other options, for example no_repeat_ngram=3,repetition_penalty=1.1",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the model, the task and the names of options.

    Raises:
        InputError: an option is unknown, two are inconsistent, or the task is unknown.
        CheckpointError: the checkpoint does not exist.
    """
    arguments.check_option_names(list(parse_options(args.options)))
    if args.output == "jsonl" and args.scores:
        raise InputError("--scores requires --output text; --output jsonl always has scores")
    if args.alignments and args.output != "jsonl":
        raise InputError("--alignments requires --output jsonl")
    check_backend_arguments(args)
    arguments.check_checkpoint(args.checkpoint)
    arguments.check_task(args.model, args.task)


def run(args: argparse.Namespace) -> int:
    """Translates standard input to standard output; prints the speed on stderr."""
    options = parse_options(args.options)
    options |= {name: value for name, *_ in _OPTIONS if (value := getattr(args, name)) is not None}
    if args.n_best is not None:
        options["num_hypotheses"] = args.n_best
    from keras_mtl.decoding.translators import load_translator

    stream = standard_input()
    translator = load_translator(
        args.model,
        options,
        batch_size=args.batch_size,
        on_long_line=args.on_long_line,
        checkpoint=args.checkpoint,
        **backend_arguments(args),
    )
    arguments.note_zero_shot(
        translator.tasks, args.task
    )  # Check this before waiting for the first line.

    def translate(lines: Sequence[str], first: int) -> "list[tuple[str, list[Hypothesis]]]":
        found = translator.hypotheses(
            lines, args.task, alignments=args.alignments, first_line=first
        )
        return list(zip(lines, found, strict=True))

    speed = _Speed()
    reader = LineReader(stream, "standard input")
    for chunk in chunks(reader, args.chunk_lines, reader.has_more):
        speed.start()
        for first, found in finished_first(translate, chunk, speed.lines + 1):
            for number, (line, hypotheses) in enumerate(found, first):
                for text in _shown(number, line, hypotheses, args):
                    sys.stdout.buffer.write(text.encode() + b"\n")
            sys.stdout.buffer.flush()
            speed.stop(found)
    if speed.lines:
        speed.show()
    return 0


class _Speed:
    """Counts lines, tokens and seconds; prints the speed periodically."""

    def __init__(self) -> None:
        self.lines = 0
        self._tokens = 0
        self._seconds = 0.0
        self._shown = time.perf_counter()
        self._from_terminal = sys.stdin.isatty()  # If so, do not print between the user's lines.

    def start(self) -> None:
        self._start = time.perf_counter()

    def stop(self, found: "Sequence[tuple[str, list[Hypothesis]]]") -> None:
        now = time.perf_counter()
        self._seconds, self._start = self._seconds + now - self._start, now
        self.lines += len(found)
        self._tokens += sum(hypotheses[0].length for _, hypotheses in found)
        if now >= self._shown + _SECONDS_BETWEEN_SPEEDS and not self._from_terminal:
            self._shown = now
            self.show()

    def show(self) -> None:
        print(
            f"{self.lines:,} lines, {self._tokens:,} tokens in {self._seconds:.1f} s: "
            f"{self.lines / self._seconds:.1f} lines/s, {self._tokens / self._seconds:.0f} "
            "tokens/s",
            file=sys.stderr,
            flush=True,
        )


def _shown(
    number: int, line: str, hypotheses: "list[Hypothesis]", args: argparse.Namespace
) -> Iterator[str]:
    """Yields the output lines of one input line."""
    if args.output == "jsonl":
        yield json.dumps(_as_json(number, line, hypotheses), ensure_ascii=False)
    elif args.n_best is None:
        best = hypotheses[0]
        yield f"{best.score:.4f}\t{best.text}" if args.scores else best.text
    else:
        for hypothesis in hypotheses:
            yield f"{number}\t{hypothesis.score:.4f}\t{hypothesis.text}"


def _as_json(number: int, line: str, hypotheses: "list[Hypothesis]") -> dict[str, Any]:
    """Returns an input line with its hypotheses for `--output jsonl`."""
    entry: dict[str, Any] = {"line": number, "source": line}
    if hypotheses[0].source_tokens:
        entry["source_tokens"] = hypotheses[0].source_tokens
    entry["hypotheses"] = [
        {
            "text": h.text,
            "score": _rounded(h.score),
            "log_probability": _rounded(h.log_probability),
            "ended": h.ended,
            "tokens": h.tokens,
            "ids": h.ids,
            "token_scores": _rounded(h.token_scores),
            **({} if h.alignment is None else {"alignment": _rounded(h.alignment)}),
        }
        for h in hypotheses
    ]
    return entry


def _rounded(value: Any) -> Any:
    """Rounds floats for JSON to six decimals, and converts -inf and unknown values to None."""
    if value is None:
        return None
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return [_rounded(part) for part in (value if isinstance(value, list) else value.tolist())]
