"""`keras-mtl baselines`: trains a single-task model per task to get baselines for schedules."""

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
        help="training steps of each single-task model (default: trainer.train_steps)",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """See `common.check_experiment_arguments`."""
    check_experiment_arguments(args, needs_model_dir=True)


def run(args: argparse.Namespace) -> int:
    """Trains the single-task models one after another and prints their best validation scores."""
    model_dir = require_model_dir(args)
    from keras_mtl.training.run.planning import check_preparing

    config = load_config(args, check_preparing)
    from keras_mtl.evaluation.task_metrics import TaskMetrics
    from keras_mtl.training.run.baselines import measure_baselines

    # Flush, because the training processes also write to standard output.
    log = functools.partial(print, flush=True)
    found = measure_baselines(config, model_dir, args.train_steps, log)
    print(f"best {TaskMetrics.of(config).title} of each single-task model on its dev set:")
    for name, score in found.items():
        print(f"  {name}: {score:.2f}")
    print(f"wrote {model_dir}/{BASELINES_FILE}; use it as trainer.schedule.baselines_file")
    return 0
