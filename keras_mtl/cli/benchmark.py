"""`keras-mtl benchmark`: measures the engine with a model on this machine."""

import argparse
import os
import tempfile
from pathlib import Path

from keras_mtl.cli.arguments import (
    check_checkpoint,
    check_model,
    positive_float,
    positive_int,
)
from keras_mtl.cli.printing import describe_architecture, print_table
from keras_mtl.configuration.sublayers import saved_only_tensorflow
from keras_mtl.errors import InputError
from keras_mtl.hardware import processor_count, processor_name
from keras_mtl.messages import to_stderr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "--model", required=True, metavar="PATH", help="model directory or engine file"
    )
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint to use (default: the best or the newest)"
    )
    parser.add_argument(
        "--compute_types",
        nargs="+",
        default=["float32", "int8"],
        choices=["float32", "int8"],
        metavar="TYPE",
        help="compute types to measure: float32, int8",
    )
    parser.add_argument(
        "--batch_sizes", nargs="+", type=positive_int, default=[1, 8, 32, 64], metavar="N",
        help="numbers of sentences that each worker processes at once",
    )  # fmt: skip
    parser.add_argument(
        "--workers",
        nargs="+",
        type=positive_int,
        metavar="N",
        help="numbers of threads (default: 1 and the number of processors)",
    )
    parser.add_argument("--beam_size", type=positive_int, default=4, metavar="K", help="beam size")
    parser.add_argument(
        "--source_tokens",
        type=positive_int,
        default=25,
        metavar="N",
        help="tokens of each source sentence",
    )
    parser.add_argument(
        "--target_tokens",
        type=positive_int,
        default=25,
        metavar="N",
        help="tokens of each translation",
    )
    parser.add_argument(
        "--seconds",
        type=positive_float,
        default=1.0,
        metavar="S",
        help="duration of each measurement in seconds",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the model and the checkpoint.

    Raises:
        InputError: the path is not a model that the engine supports.
        CheckpointError: the checkpoint does not exist.
    """
    check_model("--model", args.model, "a model directory or an engine file")
    check_checkpoint(args.checkpoint)
    if reason := saved_only_tensorflow(args.model):
        raise InputError(
            f"--model {args.model}: {reason}, but benchmark measures the C++ engine. Give a model "
            "that the engine supports"
        )


def run(args: argparse.Namespace) -> int:
    """Measures the engine and prints a table."""
    from keras_mtl.decoding.model_kinds import ModelKind, model_kind

    if model_kind(args.model) is ModelKind.ENGINE_FILE:
        return _measure_all(args.model, args)
    from keras_mtl.export.model_dir import export_weights

    with tempfile.TemporaryDirectory(prefix="keras_mtl-") as directory:
        path = export_weights(
            "engine", args.model, Path(directory) / "model.kmtl", checkpoint=args.checkpoint
        )
        return _measure_all(path, args)


def _measure_all(path: str | os.PathLike[str], args: argparse.Namespace) -> int:
    from keras_mtl.decoding.benchmark import Load, Workload, measure
    from keras_mtl.engine import open_model_file

    work = Workload(args.source_tokens, args.target_tokens, args.beam_size, args.seconds)
    processors = processor_count()
    about = open_model_file(path).hyperparameters
    print(describe_architecture(about), f"{processors} processors: {processor_name()}", sep="\n")
    rows = []
    for compute_type in args.compute_types:
        for workers in args.workers or sorted({1, processors}):
            to_stderr(f"measuring {compute_type} with {workers} workers")
            found = measure(path, Load(compute_type, workers), args.batch_sizes, work)
            speeds = [f"{found.tokens_per_second[size]:,.0f}" for size in args.batch_sizes]
            rows.append([
                compute_type, found.isa, str(workers), *speeds,
                f"{found.memory / 1e6:,.0f}", f"{found.load_seconds:.2f}",
            ])  # fmt: skip
    print(
        f"target tokens per second; {work.source_tokens} source and {work.target_tokens} target "
        f"tokens, beam {work.beam_size}, median of calls"
    )
    batches = [f"batch {size}" for size in args.batch_sizes]
    print_table(["type", "isa", "workers", *batches, "MB", "load s"], rows)
    return 0
