"""`keras-mtl average`: averages the weights of several checkpoints of a run."""

import argparse
import os
from pathlib import Path

from keras_mtl import api
from keras_mtl.cli import arguments
from keras_mtl.errors import CheckpointError, InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="directory of the run")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="model directory to create for the average"
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--last", type=arguments.positive_int, metavar="N", help="average the N newest checkpoints"
    )
    which.add_argument(
        "--best",
        type=arguments.positive_int,
        metavar="N",
        help="average the N best checkpoints that the run has kept (trainer.best)",
    )
    parser.add_argument(
        "--score",
        default="macro",
        metavar="NAME",
        help="what the best checkpoints are best by: macro, worst, or the name of a task "
        "(default: macro)",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the run and the output path.

    Raises:
        InputError: the directory is not a run, or --score is given without --best.
        CheckpointError: the output exists.
        ConfigError: the output is not writable.
    """
    arguments.check_model("--model_dir", args.model_dir, "a model directory", directory_only=True)
    if args.score != "macro" and args.best is None:
        raise InputError(f"--score {args.score} is used only with --best. Omit it")
    arguments.check_local("--output", args.output)
    if Path(args.output).exists():
        raise CheckpointError(f"--output {args.output} exists. Give another output")
    arguments.check_output_directory("--output", Path(args.output).absolute().parent)


def run(args: argparse.Namespace) -> int:
    """Averages, and prints the checkpoints and the new directory; returns the exit code."""
    prefixes = api.average_checkpoints(
        args.model_dir, args.output, last=args.last, best=args.best, score=args.score
    )
    names = ", ".join(os.path.relpath(prefix, args.model_dir) for prefix in prefixes)
    print(f"average of {names} in {args.output}")
    return 0
