"""``keras-mtl report``: compares runs on one page."""

import argparse
import os
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "model_dirs",
        nargs="+",
        metavar="MODEL_DIR",
        help="folders of runs; those that differ by runtime.seed alone are told together",
    )
    parser.add_argument("--output", default="report", metavar="DIR", help="folder of the report")
    parser.add_argument(
        "--baseline",
        metavar="LABEL",
        help="configuration that the others are tested against (default: the first)",
    )
    parser.add_argument("--split", default="test", choices=["dev", "test"], help="evaluation read")
    parser.add_argument(
        "--samples", type=int, default=1000, metavar="N", help="of the bootstrap; 0 leaves it out"
    )
    parser.add_argument("--title", default="Schedules compared", help="of the page")


def run(args: argparse.Namespace) -> int:
    """Writes the report and prints its tables; returns the exit code."""
    from keras_mtl.errors import ConfigError
    from keras_mtl.report import read_run, write_report

    if args.samples < 0:
        raise ConfigError(f"--samples {args.samples}: give 0 or more")
    if os.path.lexists(args.output) and not os.path.isdir(args.output):
        raise ConfigError(f"--output {args.output} is a file; give the name of a folder")
    runs = [read_run(folder, args.split) for folder in args.model_dirs]
    for item in runs:
        for note in item.notes:
            _to_stderr(f"{item.folder}: {note}")
    path, markdown = write_report(
        runs, args.output, args.baseline, args.samples, args.title, _to_stderr
    )
    print(markdown)
    print(f"page: {path}")
    return 0


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
