"""`keras-mtl add-adapters`: adds exported adapters to an engine file."""

import argparse
from pathlib import Path

from keras_mtl.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("--model", required=True, metavar="FILE", help="engine file to add to")
    parser.add_argument(
        "--adapters",
        required=True,
        nargs="+",
        metavar="FILE",
        help="files written by `keras-mtl export --format adapters`",
    )
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="engine file to write; may be --model"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing engine file")


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the files and the output path.

    Raises:
        ConfigError: a file is missing, or the output is not writable.
        ExportError: the output exists.
    """
    from keras_mtl.export.engine_file import check_free_file

    arguments.check_input_file("--model", args.model)
    for path in args.adapters:
        arguments.check_input_file("--adapters", path)
    arguments.check_output_file("--output", args.output)
    check_free_file(Path(args.output), args.overwrite)


def run(args: argparse.Namespace) -> int:
    """Adds the adapters and prints the path of the new file; returns the exit code."""
    from keras_mtl.decoding.adapter_file import add_adapters

    print(add_adapters(args.model, args.adapters, args.output))
    return 0
