"""`keras-mtl prepare`: prepares corpora for training."""

import argparse
from typing import TYPE_CHECKING

from keras_mtl import errors
from keras_mtl.cli import arguments
from keras_mtl.cli.common import (
    add_experiment_arguments,
    check_experiment_arguments,
    load_config,
)

if TYPE_CHECKING:
    from keras_mtl.data.beam_pipeline import Runner


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    add_experiment_arguments(parser, modes=())
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace data that was prepared from other inputs or settings",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read the prepared data afterwards and compare its checksums",
    )
    parser.add_argument(
        "--processes",
        type=arguments.positive_int,
        metavar="N",
        help="processes that read, clean and encode (default: one per processor, or one for small "
        "corpora); the result is the same",
    )
    group = parser.add_argument_group("Apache Beam")
    group.add_argument(
        "--runner",
        metavar="NAME",
        help="prepare on a Beam runner, such as DirectRunner, FlinkRunner or DataflowRunner",
    )
    group.add_argument(
        "--runner_option",
        metavar="OPTION",
        action="append",
        default=[],
        help="option of the runner, as in --runner_option=--region=europe-west1; may be repeated",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the arguments.

    Raises:
        ConfigError: see `common.check_experiment_arguments`.
        InputError: arguments contradict each other.
    """
    check_experiment_arguments(args, remote=True)
    if args.runner and args.processes:
        raise errors.InputError("--processes has no effect with --runner. Omit one of them")
    if args.runner_option and not args.runner:
        raise errors.InputError("--runner_option is for --runner, which is missing")


def _runner(args: argparse.Namespace) -> "Runner | None":
    """Returns the Beam runner of the arguments, checked."""
    if not args.runner:
        return None
    from keras_mtl.data.beam_pipeline import Runner, check_runner

    runner = Runner(args.runner, args.runner_option)
    check_runner(runner)
    return runner


def run(args: argparse.Namespace) -> int:
    """Prepares the data and prints the tables and the directory. Returns the exit code."""
    from keras_mtl.training.run.planning import check_preparing
    from keras_mtl.training.run.setup import prepare_task_data

    config = load_config(args, check_preparing)
    prepared = prepare_task_data(
        config.task,
        args.model_dir,
        overwrite=args.overwrite,
        processes=args.processes,
        runner=_runner(args),
    )
    if args.verify:
        prepared.verify()
        print("all checksums are correct")
    print(f"{len(prepared.tasks)} tasks, {prepared.vocabulary.describe()} in {prepared.data_dir}")
    return 0
