"""`keras-mtl prepare`: prepares corpora for training."""

import argparse

from keras_mtl.cli.common import (
    add_experiment_arguments,
    check_experiment_arguments,
    load_config,
)


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


def check_arguments(args: argparse.Namespace) -> None:
    """See `common.check_experiment_arguments`."""
    check_experiment_arguments(args, remote=True)


def run(args: argparse.Namespace) -> int:
    """Prepares the data and prints the tables and the directory. Returns the exit code."""
    from keras_mtl.training.run.planning import check_preparing
    from keras_mtl.training.run.setup import prepare_task_data

    config = load_config(args, check_preparing)
    prepared = prepare_task_data(config.task, args.model_dir, overwrite=args.overwrite)
    if args.verify:
        prepared.verify()
        print("all checksums are correct")
    print(
        f"{len(prepared.tasks)} tasks, vocabulary of {prepared.vocabulary.size:,} ids in "
        f"{prepared.data_dir}"
    )
    return 0
