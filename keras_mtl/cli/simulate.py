"""`keras-mtl simulate`: what a schedule would do, before hours of training."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_mtl.cli import arguments
from keras_mtl.cli.printing import print_table
from keras_mtl.errors import ConfigError
from keras_mtl.files import replace_file

if TYPE_CHECKING:
    from keras_mtl.simulation.comparison import Played

_CURVE_PARAMETERS = {
    "exponent": "power of the learning curves (default: 0.5)",
    "onset": "examples at which a curve bends (default: 5000)",
    "transfer": "what an example of another task is worth, 0 to 1 (default: 0.2)",
    "interference": "power of the share of capacity that a task gets (default: 0.03)",
    "forgetting": "part of an even share at which half is forgotten (default: 0.03)",
    "repeats": "passes after which a repeat is worth 1/e (default: 15)",
    "memory": "steps over which the recent share counts (default: a twentieth of all)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    _add_source_arguments(parser.add_argument_group("what is simulated"))
    _add_curve_arguments(parser.add_argument_group("how the tasks learn"))
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", default="simulation.png", metavar="PNG", help="picture; '' draws none"
    )
    output.add_argument("--html", metavar="FILE", help="also write a page with picture and tables")
    output.add_argument("--json", metavar="FILE", help="also write every number")


def _add_source_arguments(source: "argparse._ArgumentGroup") -> None:
    source.add_argument(
        "--config_file",
        metavar="YAML",
        action="append",
        default=[],
        help="configuration file; may be given several times, each over the one before",
    )
    source.add_argument(
        "--model_dir", metavar="DIR", help="a run, for its params.yaml and its prepared data"
    )
    source.add_argument(
        "--tasks", metavar="YAML", help="list of {name, size, baseline} instead of the tasks"
    )
    source.add_argument(
        "--schedule",
        metavar="SPEC",
        action="append",
        default=[],
        help="NAME, NAME:key=value,key=value, or {name: NAME, parameters: {...}, label: ...}; may "
        "be given several times (default: the configuration's own, which is also called config)",
    )
    source.add_argument("--schedules", metavar="YAML", help="file with a list of such schedules")
    source.add_argument(
        "--train_steps", type=arguments.positive_int, metavar="N", help="(default: as configured)"
    )
    source.add_argument(
        "--interval",
        type=arguments.natural_int,
        metavar="N",
        help="steps between validations (default: as configured)",
    )
    source.add_argument(
        "--draws",
        choices=["expected", "random", "blend"],
        default="expected",
        help="counts of batches: their expectation, by chance, or whole and even",
    )
    source.add_argument("--seed", type=int, default=1, help="of chance and noise")


def _add_curve_arguments(curves: "argparse._ArgumentGroup") -> None:
    curves.add_argument(
        "--recorded", metavar="DIR", help="a run whose scores are the curves, instead of power laws"
    )
    curves.add_argument(
        "--baseline_steps",
        type=arguments.positive_int,
        metavar="N",
        help="steps in which a model trained on only one task reaches its baseline (default: all)",
    )
    curves.add_argument(
        "--noise",
        type=arguments.natural_float,
        default=0.0,
        metavar="X",
        help="of scores, in parts of the baseline",
    )
    for name, text in _CURVE_PARAMETERS.items():
        curves.add_argument(f"--{name}", type=float, metavar="X", help=text)


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the files.

    Raises:
        ConfigError: one cannot be read or written, or the picture has another ending than .png.
    """
    if args.output and Path(args.output).suffix.lower() != ".png":
        raise ConfigError(
            f"--output {args.output}: the picture is a PNG; give a name ending in .png"
        )
    for path in args.config_file:
        arguments.check_input_file("--config_file", path)
    for name in ("tasks", "schedules"):
        if getattr(args, name):
            arguments.check_input_file(f"--{name}", getattr(args, name))
    for name in ("output", "html", "json"):
        if getattr(args, name):
            arguments.check_output_file(f"--{name}", getattr(args, name))


def run(args: argparse.Namespace) -> int:
    """Plays the schedules, prints tables, draws; returns the exit code."""
    from keras_mtl.simulation import PlaySettings
    from keras_mtl.simulation.comparison import as_data, play_all
    from keras_mtl.simulation.experiment import read_experiment
    from keras_mtl.simulation.setup import make_curves, notes_on, schedules_to_play

    experiment = read_experiment(args.config_file, args.model_dir, args.tasks)
    steps = args.train_steps if args.train_steps is not None else experiment.steps
    if steps < 1:
        raise ConfigError(f"--train_steps {steps}: give at least 1")
    interval = args.interval if args.interval is not None else experiment.interval
    given = {
        name: value for name in _CURVE_PARAMETERS if (value := getattr(args, name)) is not None
    }
    baseline_steps = args.baseline_steps if args.baseline_steps is not None else steps
    curves = make_curves(experiment, given, baseline_steps, args.recorded)
    batches = experiment.batches_per_step
    settings = PlaySettings(steps * batches, interval * batches, args.draws, args.seed, args.noise)
    specs = schedules_to_play(experiment, args.schedule, args.schedules)
    begin = time.perf_counter()
    played = play_all(specs, curves, experiment.rows, settings)
    seconds = time.perf_counter() - begin
    _print_tables(played)
    notes = notes_on(experiment, curves, played, args.recorded)
    for note in notes:
        print(note)
    print(
        f"{len(curves.tasks):,} tasks, {settings.steps:,} batches, {len(played)} schedules played "
        f"in {seconds:.2f} s"
    )
    _write(args, played, notes)
    if args.json:
        text = json.dumps(as_data(played), ensure_ascii=False, default=str)
        replace_file(args.json, text + "\n")
        print(f"numbers: {args.json}")
    return 0


def _print_tables(played: "Sequence[Played]") -> None:
    from keras_mtl.simulation.comparison import (
        MOST_TASKS_IN_TABLE,
        baseline_notes,
        baseline_table,
        group_tables,
        task_tables,
    )

    for title, table in group_tables(played).items():
        print(f"{title}:")
        print_table(*table)
        print()
    if len(played[0].schedule.tasks) <= MOST_TASKS_IN_TABLE:
        print_table(*baseline_table(played))
        for note in baseline_notes(played):
            print(note)
        for title, table in task_tables(played).items():
            print(f"\n{title}:")
            print_table(*table)
        print()


def _write(args: argparse.Namespace, played: "Sequence[Played]", notes: list[str]) -> None:
    if not args.output and not args.html:
        return
    from keras_mtl.figures.charts import save_png
    from keras_mtl.figures.simulation import draw_simulations

    if args.output:
        print(f"picture: {save_png(draw_simulations(played), args.output)}")
    if args.html:
        from keras_mtl.report.simulation_page import write_simulation_page

        print(f"page: {write_simulation_page(args.html, played, notes)}")
