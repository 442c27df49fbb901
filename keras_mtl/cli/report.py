"""``keras-mtl report``: compares runs on one page."""

import argparse
import datetime
import os
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "model_dirs",
        nargs="+",
        metavar="MODEL_DIR",
        help="directories of runs; those that differ only by runtime.seed are one configuration",
    )
    parser.add_argument("--output", default="report", metavar="DIR", help="directory of the report")
    parser.add_argument(
        "--baseline",
        metavar="LABEL",
        help="configuration that the others are tested against, by its label or the directory of "
        "one of its runs (default: the first)",
    )
    parser.add_argument("--split", default="test", choices=["dev", "test"], help="evaluation read")
    parser.add_argument(
        "--samples", type=int, default=1000, metavar="N", help="of the bootstrap; 0 leaves it out"
    )
    parser.add_argument("--title", default="", help="of the page (default: one that fits the runs)")


def run(args: argparse.Namespace) -> int:
    """Writes the report and prints its tables; returns the exit code."""
    import keras_mtl
    from keras_mtl import hardware
    from keras_mtl.errors import ConfigError
    from keras_mtl.report import read_run, write_report

    if args.samples < 0:
        raise ConfigError(f"--samples {args.samples}: give 0 or more")
    if os.path.lexists(args.output) and not os.path.isdir(args.output):
        raise ConfigError(f"--output {args.output} is a file; give the name of a directory")
    runs = [read_run(folder, args.split) for folder in args.model_dirs]
    for item in runs:
        for note in item.notes:
            _to_stderr(f"{item.folder}: {note}")
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    machine = f"{hardware.processor_name()}, {hardware.processor_count()} processors"
    path, markdown = write_report(
        runs,
        args.output,
        args.baseline,
        args.samples,
        args.title,
        _to_stderr,
        split=args.split,
        made=f"Made on {now} by keras_mtl {keras_mtl.__version__} on {machine}.",
    )
    print(markdown)
    print(f"page: {path}")
    return 0


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
