"""`keras-mtl report`: compares runs on one page."""

import argparse
import datetime
import os

from keras_mtl.cli.arguments import check_output_directory, natural_int
from keras_mtl.errors import DataError
from keras_mtl.messages import to_stderr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "model_dirs",
        nargs="+",
        metavar="MODEL_DIR",
        help="directories of runs; runs that differ only in runtime.seed are grouped",
    )
    parser.add_argument("--output", default="report", metavar="DIR", help="directory of the report")
    parser.add_argument(
        "--baseline",
        metavar="LABEL",
        help="configuration to compare with, as its label or the directory of one of its runs "
        "(default: the first)",
    )
    parser.add_argument(
        "--split", default="test", choices=["dev", "test"], help="split whose evaluation is read"
    )
    parser.add_argument(
        "--samples",
        type=natural_int,
        default=1000,
        metavar="N",
        help="bootstrap samples; 0 disables the bootstrap",
    )
    parser.add_argument(
        "--title", default="", help="title of the page (default: made from the runs)"
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the directories.

    Raises:
        DataError: a run is not a directory.
        ConfigError: the report's directory is not writable.
    """
    for path in args.model_dirs:
        if not os.path.isdir(path):
            raise DataError(f"{path} is not a directory. Give the model_dir of a run")
    check_output_directory("--output", args.output)


def run(args: argparse.Namespace) -> int:
    """Writes the report and prints its tables; returns the exit code."""
    import keras_mtl
    from keras_mtl import hardware
    from keras_mtl.report import read_run, write_report

    runs = [read_run(directory, args.split) for directory in args.model_dirs]
    for item in runs:
        for note in item.notes:
            to_stderr(f"{item.directory}: {note}")
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    machine = f"{hardware.processor_name()}, {hardware.processor_count()} processors"
    path, markdown = write_report(
        runs,
        args.output,
        args.baseline,
        args.samples,
        args.title,
        to_stderr,
        split=args.split,
        made=f"Made on {now} by keras_mtl {keras_mtl.__version__} on {machine}.",
    )
    print(markdown)
    print(f"page: {path}")
    return 0
