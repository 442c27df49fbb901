"""`keras-mtl train`: trains, validates and saves. The same command resumes an interrupted run."""

import argparse
import functools

from keras_mtl.cli.common import (
    add_experiment_arguments,
    check_experiment_arguments,
    read_config,
    require_model_dir,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    add_experiment_arguments(parser)


def check_arguments(args: argparse.Namespace) -> None:
    """See `common.check_experiment_arguments`."""
    check_experiment_arguments(args, needs_model_dir=True, writes=args.mode != "eval", remote=True)


def run(args: argparse.Namespace) -> int:
    """Trains until `trainer.train_steps` and prints each task's share of batches and score."""
    from keras_mtl.evaluation.task_metrics import TaskMetrics
    from keras_mtl.training.run.planning import plan_training

    plan = plan_training(read_config(args), args.mode)
    model_dir = require_model_dir(args)
    from keras_mtl.training.run.loop import run_experiment  # Imports TensorFlow.

    # Flush, so that a log file shows lines immediately and in order with standard error.
    result = run_experiment(plan, model_dir, functools.partial(print, flush=True))
    if not result.chief:
        return 0
    print(f"step {result.step:,} in {model_dir}")
    total = max(1, sum(result.batches.values()))
    metrics = TaskMetrics.of(plan.config)
    width = max(len(name) for name in result.batches)
    print(f"{'task':<{width}}  {'share':>6}  {metrics.title:>8}")
    for name, count in result.batches.items():
        score = result.scores.get(name)
        shown = "-" if score is None else f"{score:.2f}"
        print(f"{name:<{width}}  {count / total:>6.1%}  {shown:>8}")
    if result.best_step >= 0:
        title = metrics.average_title
        print(f"best: {title} {result.best_score:.2f} on average, step {result.best_step:,}")
    return 0
