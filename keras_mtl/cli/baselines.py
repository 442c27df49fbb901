"""`keras-mtl baselines`: trains a model for each task, for adaptive schedules to compare with."""

import argparse
import functools

from keras_mtl.cli.arguments import positive_int
from keras_mtl.cli.common import (
    add_experiment_arguments,
    check_experiment_arguments,
    load_config,
    require_model_dir,
)
from keras_mtl.run_files import BASELINES_FILE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    add_experiment_arguments(parser, modes=())
    parser.add_argument(
        "--train_steps",
        type=positive_int,
        metavar="N",
        help="steps of each single-task model (default: trainer.train_steps)",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """See `common.check_experiment_arguments`."""
    check_experiment_arguments(args, needs_model_dir=True)


def run(args: argparse.Namespace) -> int:
    """Trains the tasks one after the other and prints their best validation scores."""
    model_dir = require_model_dir(args)
    from keras_mtl.training.run.planning import check_preparing

    config = load_config(args, check_preparing)
    from keras_mtl.training.run.baselines import measure_baselines

    # Flushed: the trainings write between these lines.
    log = functools.partial(print, flush=True)
    found = measure_baselines(config, model_dir, args.train_steps, log)
    print(f"best {config.trainer.evaluation.metric} of a model trained on only one task, on dev:")
    for name, score in found.items():
        print(f"  {name}: {score:.2f}")
    print(f"written: {model_dir}/{BASELINES_FILE}; use it as trainer.schedule.baselines_file")
    return 0
