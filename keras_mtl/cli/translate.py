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

# Options of beam search with an argument of their own; --options takes all.
_OPTIONS = (
    ("beam_size", int, "live hypotheses of a sentence; 1 is greedy"),
    ("max_length", int, "most tokens of a translation"),
    ("min_length", int, "fewest tokens of a translation"),
    ("length_penalty", str, "none, power, gnmt, lingvo or constant"),
    ("alpha", float, "exponent of the length penalty"),
    ("patience", float, "end a sentence when beam_size * patience hypotheses are finished"),
)

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
        "--checkpoint", metavar="PATH", help="checkpoint to read (default: the best, else newest)"
    )
    parser.add_argument(
        "--n_best",
        type=arguments.positive_int,
        metavar="N",
        help="print N translations of each line: its number, score and text, with tabs between",
    )
    parser.add_argument(
        "--scores", action="store_true", help="print the score and a tab before each translation"
    )
    parser.add_argument(
        "--output",
        default="text",
        choices=["text", "jsonl"],
        help="jsonl prints a JSON object for each line: all hypotheses with text, scores, tokens "
        "and log-probabilities of the tokens",
    )
    parser.add_argument(
        "--alignments",
        action="store_true",
        help="with --output jsonl: also the attention of each token to the source",
    )
    parser.add_argument(
        "--on_long_line",
        default="error",
        choices=["error", "truncate", "skip"],
        help="a line longer than the model's positions: stop after the lines before it (error), "
        "translate its beginning (truncate), or give it an empty translation (skip)",
    )
    parser.add_argument(
        "--batch_size", type=arguments.positive_int, metavar="N", help="lines translated at once"
    )
    parser.add_argument(
        "--chunk_lines",
        type=arguments.positive_int,
        default=512,
        metavar="N",
        help="most lines translated and printed together; fewer if no more are there yet",
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


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the model, the task and the names of options.

    Raises:
        InputError: an option is unknown, two do not fit together, or the model has no such task.
        CheckpointError: there is no such checkpoint.
    """
    arguments.check_option_names(list(parse_options(args.options)))
    if args.output == "jsonl" and args.scores:
        raise InputError("--scores is for --output text; --output jsonl has all scores")
    if args.alignments and args.output != "jsonl":
        raise InputError("--alignments needs --output jsonl")
    check_backend_arguments(args)
    arguments.check_checkpoint(args.checkpoint)
    arguments.check_task(args.model, args.task)


def run(args: argparse.Namespace) -> int:
    """Translates standard input to standard output; speed goes to standard error."""
    options = parse_options(args.options)
    options |= {name: value for name, *_ in _OPTIONS if (value := getattr(args, name)) is not None}
    if args.n_best is not None:
        options["num_hypotheses"] = args.n_best
    from keras_mtl.decoding.tasks import find_task
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
    find_task(translator.tasks, args.task)  # Before the first line is waited for.

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
    """Counts lines, tokens and seconds of translating; shows them from time to time."""

    def __init__(self) -> None:
        self.lines = 0
        self._tokens = 0
        self._seconds = 0.0
        self._shown = time.perf_counter()
        self._from_terminal = sys.stdin.isatty()  # Whose lines must not be separated by ours.

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
    """One input line with its hypotheses, for `--output jsonl`."""
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
    """Floats for JSON: six decimals are what float32 holds; null for -inf and for the unknown."""
    if value is None:
        return None
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return [_rounded(part) for part in (value if isinstance(value, list) else value.tolist())]
