"""`keras-mtl report`: compares runs on one page."""

import argparse
import datetime
import os
import time
from collections.abc import Sequence
from pathlib import Path

from keras_mtl.cli.arguments import check_output_directory, natural_int
from keras_mtl.errors import ConfigError, DataError
from keras_mtl.messages import to_stderr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "model_dirs",
        nargs="+",
        metavar="MODEL_DIR",
        help="directories of runs; runs that differ only in runtime.seed are grouped. Or one "
        "directory of a sweep of benchmarks/compare_schedules.py",
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
    parser.add_argument(
        "--refresh",
        type=natural_int,
        default=0,
        metavar="SECONDS",
        help="write the page again when the runs have logged something, until they end; a browser "
        "loads it again at this interval (default: 0, write it once)",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the directories.

    Raises:
        DataError: a run is not a directory.
        ConfigError: the report's directory is not writable, or an option does not apply.
    """
    for path in args.model_dirs:
        if not os.path.isdir(path):
            raise DataError(f"{path} is not a directory. Give the model_dir of a run")
    if len(args.model_dirs) > 1 and (sweeps := [p for p in args.model_dirs if _is_sweep(p)]):
        raise DataError(
            f"{sweeps[0]} is the directory of a sweep, which has a report of its own. Give only it"
        )
    if _is_sweep(args.model_dirs[0]):
        for option, given in (("--split dev", args.split == "dev"), ("--baseline", args.baseline)):
            if given:
                raise ConfigError(
                    f"{option} does not apply to a sweep. Its report compares test scores with the "
                    "best temperature"
                )
    check_output_directory("--output", args.output)


def run(args: argparse.Namespace) -> int:
    """Writes the report and prints its tables; returns the exit code."""
    noted: set[str] = set()
    seen = _logged(_watched(args.model_dirs))
    path, markdown, goes_on = _write(args, noted)
    if args.refresh and goes_on:
        to_stderr(f"page: {path}. It is written again while the runs train; Ctrl-C ends this")
    while args.refresh and goes_on:
        time.sleep(args.refresh)
        now = _logged(_watched(args.model_dirs))
        if now != seen:
            seen = now
            path, markdown, goes_on = _write(args, noted)
    print(markdown)
    print(f"page: {path}")
    return 0


def _write(args: argparse.Namespace, noted: set[str]) -> tuple[Path, str, bool]:
    """Writes the report.

    Args:
        args: the arguments.
        noted: notes that were printed before; this function adds to them.

    Returns:
        The path of the page, the tables in Markdown, and whether a run has steps left.
    """
    if _is_sweep(args.model_dirs[0]):
        return _write_sweep(args)
    from keras_mtl.report import read_run, write_report

    runs = [read_run(directory, args.split) for directory in args.model_dirs]
    goes_on = not all(run.finished for run in runs)
    for item in runs:
        for note in item.notes:
            line = f"{item.directory}: {note}"
            # While runs train, the number of steps would be a new note each time.
            if line not in noted and (item.finished or not args.refresh):
                to_stderr(line)
            noted.add(line)
    path, markdown = write_report(
        runs,
        args.output,
        args.baseline,
        args.samples,
        args.title,
        to_stderr,
        split=args.split,
        made=_made(),
        refresh=args.refresh if goes_on else 0,
    )
    return path, markdown, goes_on


def _write_sweep(args: argparse.Namespace) -> tuple[Path, str, bool]:
    """Writes the report of a sweep; returns the same as `_write`."""
    from keras_mtl.report.sweep.files import read_sweep
    from keras_mtl.report.sweep.writing import write_sweep_report

    sweep = read_sweep(args.model_dirs[0])
    goes_on = any(model.finished < model.planned for model in sweep.models)
    path, markdown = write_sweep_report(
        sweep,
        args.output,
        args.samples,
        args.title,
        to_stderr,
        made=_made(),
        refresh=args.refresh if goes_on else 0,
    )
    return path, markdown, goes_on


def _made() -> str:
    """Returns the footer of a page."""
    import keras_mtl
    from keras_mtl import hardware

    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    machine = f"{hardware.processor_name()}, {hardware.processor_count()} processors"
    return f"Made on {now} by keras_mtl {keras_mtl.__version__} on {machine}."


def _is_sweep(directory: str) -> bool:
    from keras_mtl.report.sweep.files import is_sweep

    return is_sweep(directory)


def _watched(directories: Sequence[str]) -> list[str]:
    """Returns the directories of the runs; those of a sweep if the directory is one."""
    if not _is_sweep(directories[0]):
        return list(directories)
    from keras_mtl.report.sweep.files import run_directories

    return [str(path) for path in run_directories(directories[0])]


def _logged(directories: Sequence[str]) -> list[tuple[str, int, int]]:
    """Returns what changes when runs log something or are evaluated."""
    found = []
    for directory in map(Path, directories):
        for file in sorted((*directory.glob("*.jsonl"), *directory.glob("evaluation-*.json"))):
            try:
                about = file.stat()
            except OSError:  # It was replaced just now.
                continue
            found.append((str(file), about.st_size, about.st_mtime_ns))
    return found
