"""`keras-mtl simulate`: simulates schedules, or computes costs, before hours of training."""

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_mtl.cli import arguments
from keras_mtl.cli.printing import print_table
from keras_mtl.errors import ConfigError, InputError
from keras_mtl.files import replace_file

if TYPE_CHECKING:
    from keras_mtl.simulation.comparison import Played
    from keras_mtl.simulation.experiment import Experiment

_CURVE_PARAMETERS = {
    "exponent": "exponent of the learning curves (default: 0.5)",
    "onset": "number of examples at which a curve bends (default: 5000)",
    "transfer": "value of an example of another task, 0 to 1 (default: 0.2)",
    "interference": "exponent of a task's share of capacity (default: 0.03)",
    "forgetting": "fraction of an even share at which half is forgotten (default: 0.03)",
    "repeats": "passes after which a repeated example is worth 1/e (default: 15)",
    "memory": "steps over which the recent share is averaged (default: a twentieth of all)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    _add_source_arguments(parser.add_argument_group("experiment"))
    _add_curve_arguments(parser.add_argument_group("learning curves"))
    _add_plan_arguments(parser.add_argument_group("costs"))
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", default="simulation.png", metavar="PNG", help="file of the chart; '' for none"
    )
    output.add_argument("--html", metavar="FILE", help="also write a page with chart and tables")
    output.add_argument("--json", metavar="FILE", help="also write all numbers as JSON")


def _add_source_arguments(source: "argparse._ArgumentGroup") -> None:
    source.add_argument(
        "--config_file",
        metavar="YAML",
        action="append",
        default=[],
        help="configuration file; may be repeated: later files override earlier ones",
    )
    source.add_argument(
        "--model_dir", metavar="DIR", help="run whose params.yaml and prepared data are used"
    )
    source.add_argument(
        "--tasks",
        metavar="YAML",
        help="file with a list of {name, size, baseline} that replaces the tasks",
    )
    source.add_argument(
        "--schedule",
        metavar="SPEC",
        action="append",
        default=[],
        help="schedule: NAME, NAME:key=value,key=value, or {name: NAME, parameters: {...}, label: "
        "...}; may be repeated; `config` is that of the configuration (default: config)",
    )
    source.add_argument("--schedules", metavar="YAML", help="file with a list of such schedules")
    source.add_argument(
        "--train_steps",
        type=arguments.positive_int,
        metavar="N",
        help="training steps (default: as configured)",
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
        help="numbers of batches: expected values, random draws, or evenly spread whole batches",
    )
    source.add_argument("--seed", type=int, default=1, help="seed of random draws and noise")


def _add_curve_arguments(curves: "argparse._ArgumentGroup") -> None:
    curves.add_argument(
        "--recorded", metavar="DIR", help="run whose scores are used instead of power laws"
    )
    curves.add_argument(
        "--baseline_steps",
        type=arguments.positive_int,
        metavar="N",
        help="steps after which a single-task model reaches its baseline (default: all)",
    )
    curves.add_argument(
        "--noise",
        type=arguments.natural_float,
        default=0.0,
        metavar="X",
        help="noise of scores, as a fraction of the baseline",
    )
    for name, text in _CURVE_PARAMETERS.items():
        curves.add_argument(f"--{name}", type=float, metavar="X", help=text)


def _add_plan_arguments(plan: "argparse._ArgumentGroup") -> None:
    plan.add_argument(
        "--hardware",
        metavar="NAME",
        help="instead of simulating, print what the run costs on this hardware, by arithmetic: "
        "v5e:16x16, v6e:2x4, a100:8, h100:8, h200:8, cpu:16, ...",
    )
    for side in ("source", "target"):
        plan.add_argument(
            f"--{side}_tokens",
            type=arguments.positive_float,
            metavar="X",
            help=f"with --hardware: mean tokens of a {side}, with tag and end of sentence "
            "(default: of the prepared data, else half of the longest)",
        )


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the files.

    Raises:
        ConfigError: a file cannot be read or written, the picture's name does not end in .png, or
            the hardware is unknown.
        InputError: an argument has no effect with --hardware, or without it.
    """
    if args.hardware:
        from keras_mtl.simulation.accelerators import parse_hardware

        parse_hardware(args.hardware)
        for name in ("schedule", "schedules", "recorded", "html"):
            if getattr(args, name):
                raise InputError(
                    f"--{name} has no effect with --hardware, which simulates no schedule. Leave "
                    "one of them out"
                )
    elif args.source_tokens or args.target_tokens:
        raise InputError("--source_tokens and --target_tokens are used only with --hardware")
    if args.output and Path(args.output).suffix.lower() != ".png":
        raise ConfigError(
            f"--output {args.output}: the chart is a PNG file. Give a name that ends in .png"
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
    """Simulates the schedules, prints tables and draws a picture; returns the exit code."""
    from keras_mtl.simulation import PlaySettings
    from keras_mtl.simulation.comparison import as_data, play_all
    from keras_mtl.simulation.experiment import read_experiment
    from keras_mtl.simulation.setup import make_curves, notes_on, schedules_to_play

    experiment = read_experiment(args.config_file, args.model_dir, args.tasks)
    if args.hardware:
        return _print_plan(args, experiment)
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
    settings = PlaySettings(
        steps * batches,
        interval * batches,
        args.draws,
        args.seed,
        args.noise,
        batches_per_step=batches,
    )
    specs = schedules_to_play(experiment, args.schedule, args.schedules)
    begin = time.perf_counter()
    played = play_all(specs, curves, experiment.rows, settings, experiment.limits)
    seconds = time.perf_counter() - begin
    _print_tables(played)
    notes = notes_on(experiment, curves, played, args.recorded)
    for note in notes:
        print(note)
    print(
        f"{len(curves.tasks):,} tasks, {settings.steps:,} batches, {len(played)} schedules "
        f"simulated in {seconds:.2f} s"
    )
    _write(args, played, notes)
    if args.json:
        text = json.dumps(as_data(played), ensure_ascii=False, default=str)
        replace_file(args.json, text + "\n")
        print(f"numbers: {args.json}")
    return 0


def _print_plan(args: argparse.Namespace, experiment: "Experiment") -> int:
    """Prints what the run costs; returns the exit code."""
    from keras_mtl.simulation.accelerators import parse_hardware
    from keras_mtl.simulation.scale_plan import make_plan
    from keras_mtl.simulation.scale_table import plan_rows

    hardware = parse_hardware(args.hardware)
    lengths = experiment.lengths.copy()
    for side, tokens in enumerate((args.source_tokens, args.target_tokens)):
        if tokens is not None:
            lengths[:, side] = tokens
    steps = experiment.config.trainer.train_steps if args.train_steps is None else args.train_steps
    experiment = dataclasses.replace(experiment, lengths=lengths)
    plan = make_plan(experiment, hardware, steps)
    print_table(("quantity", "value", "from"), plan_rows(plan, experiment, hardware))
    print(
        f"All figures are arithmetic: nothing was run. Peak rates and sizes: {hardware.chip.source}"
    )
    if args.json:
        replace_file(args.json, json.dumps(dataclasses.asdict(plan)) + "\n")
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
        print(f"chart: {save_png(draw_simulations(played), args.output)}")
    if args.html:
        from keras_mtl.report.simulation_page import write_simulation_page

        print(f"page: {write_simulation_page(args.html, played, notes)}")
