"""`keras-mtl propose`: proposes fixed weights of tasks from small runs with different weights."""

import argparse
import functools
import json
import os
from typing import TYPE_CHECKING

from keras_mtl import errors
from keras_mtl.cli import arguments, common
from keras_mtl.cli.printing import print_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from keras_mtl.configuration.schema import ExperimentConfig
    from keras_mtl.proposal.proposer import Proposal
    from keras_mtl.proposal.swarm import Proxy, Swarm
    from keras_mtl.training.run.jobs import Job

_DATA_FILE, _PICTURE = "proposal.json", "proposal.png"
_OBJECTIVES = ("mean", "worst")
_LAWS = ("best", "log_linear", "double_power")
# Defaults that were better than 16 passes and no pull in docs/explanation/evidence.md.
_MAX_PASSES, _PULL = 40.0, 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    common.add_experiment_arguments(parser, modes=())
    _add_run_arguments(parser.add_argument_group("proxy runs"))
    _add_objective_arguments(parser.add_argument_group("objective"))
    fit = parser.add_argument_group("fit")
    fit.add_argument(
        "--law",
        choices=_LAWS,
        default="best",
        help="law of the loss of a task; best: for each task, the one that predicts left-out runs "
        "better",
    )
    fit.add_argument(
        "--samples",
        type=arguments.natural_int,
        default=100,
        metavar="N",
        help="bootstrap samples of the proxy runs, for the uncertainty; 0 for none",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", metavar="YAML", help="also write the configuration with the proposed weights"
    )
    output.add_argument(
        "--dry_run", action="store_true", help="print the runs that would be trained, and end"
    )


def _add_run_arguments(runs: "argparse._ArgumentGroup") -> None:
    runs.add_argument(
        "--proxy_override",
        metavar="FIELD=VALUE,...",
        action="append",
        default=[],
        help="overrides that make the proxy runs small, such as trainer.train_steps=500; may be "
        "repeated",
    )
    runs.add_argument(
        "--proxies",
        type=arguments.positive_int,
        metavar="N",
        help="number of proxy runs (default: 3 x (tasks + 1); after new tasks, enough for them)",
    )
    runs.add_argument(
        "--jobs",
        type=arguments.positive_int,
        metavar="N",
        help="number of runs at once (default: one for each processor)",
    )
    runs.add_argument(
        "--seed",
        type=arguments.natural_int,
        default=1,
        help="seed of the weights of the proxy runs and of the bootstrap",
    )


def _add_objective_arguments(goal: "argparse._ArgumentGroup") -> None:
    goal.add_argument(
        "--objective",
        choices=_OBJECTIVES,
        default="mean",
        help="what is smallest: the mean dev loss, or the largest loss / baseline of a task",
    )
    goal.add_argument(
        "--importance",
        metavar="TASK=X,...",
        default="",
        help="weights of tasks in the objective; tasks that are not named do not count (default: "
        "all tasks count equally)",
    )
    goal.add_argument(
        "--least_ratio",
        type=arguments.natural_float,
        default=0.0,
        metavar="X",
        help="no task may have a baseline / loss below this (default: no limit)",
    )
    goal.add_argument(
        "--baselines_file",
        metavar="JSON",
        help="dev loss of a single-task model of each task, {task: nats per token} (default: if "
        "the objective needs them, a proxy run of each task is trained)",
    )
    goal.add_argument(
        "--max_passes",
        type=arguments.positive_float,
        default=_MAX_PASSES,
        metavar="X",
        help="largest number of passes over the data of a task in the planned steps",
    )
    goal.add_argument(
        "--pull",
        type=arguments.natural_float,
        metavar="X",
        help="add X times the divergence from the natural distribution to the objective (default: "
        f"{_PULL} for the mean, 0 for the worst task)",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the experiment's arguments, the files and `--importance`.

    Raises:
        ConfigError: see `common.check_experiment_arguments`.
        InputError: `--importance` is not TASK=X,...
    """
    common.check_experiment_arguments(args, needs_model_dir=True)
    _importance(args)
    if args.baselines_file:
        arguments.check_input_file("--baselines_file", args.baselines_file)
    if args.output:
        arguments.check_output_file("--output", args.output)


def run(args: argparse.Namespace) -> int:
    """Trains the missing proxy runs, fits laws, and writes the proposal; returns the exit code."""
    from keras_mtl.proposal.swarm import Swarm
    from keras_mtl.training.run.jobs import locked
    from keras_mtl.training.run.planning import check_preparing

    config = common.load_config(args, check_preparing)
    swarm = Swarm(config, common.require_model_dir(args), args.proxy_override)
    swarm.check()
    log = functools.partial(print, flush=True)
    with locked(swarm.directory, log) as descriptor:
        _run_jobs([swarm.prepare_job()], 1, descriptor, log)
        space = swarm.space(args.max_passes)
        runs = swarm.plan(space, args.proxies, args.seed)
        baselines = _given_baselines(args, swarm.tasks)
        needed = args.objective == "worst" or args.least_ratio > 0
        proxies = swarm.proxy_jobs(runs)
        singles = swarm.baseline_jobs() if needed and baselines is None else []
        jobs = [*singles, *proxies]
        log(
            f"to train: {len(proxies)} of {len(runs)} proxy runs, {len(singles)} single-task runs; "
            f"{swarm.proxy_steps:,} steps each, together "
            f"{swarm.proxy_steps * len(jobs) / config.trainer.train_steps:.1f} times the "
            f"{config.trainer.train_steps:,} planned steps"
        )
        if args.dry_run:
            for job in jobs:
                log(f"  {job.name}")
            return 0
        slots = args.jobs or len(os.sched_getaffinity(0))
        _run_jobs(jobs, slots, descriptor, log)
        if needed and baselines is None:
            baselines = swarm.record_baselines()
        return _propose(args, config, swarm, runs, baselines)


def _propose(
    args: argparse.Namespace,
    config: "ExperimentConfig",
    swarm: "Swarm",
    runs: "Sequence[Proxy]",
    baselines: "np.ndarray | None",
) -> int:
    """Fits laws to the finished runs, and writes the proposal; returns the exit code."""
    from keras_mtl.proposal.objective import Objective, importance_of
    from keras_mtl.proposal.proposer import propose

    importance = importance_of(swarm.tasks, _importance(args))
    pull = args.pull
    if pull is None:
        pull = _PULL if args.objective == "mean" else 0.0
    objective = Objective(args.objective, importance, baselines, args.least_ratio, pull)
    proposal = propose(
        swarm.measurements(runs),
        swarm.space(args.max_passes),
        objective,
        args.law,
        args.samples,
        args.seed,
    )
    _write(args, config, swarm, proposal)
    if poor := proposal.poor():
        raise errors.InputError(
            f"the laws of {', '.join(fit.task for fit in poor)} predict left-out runs no better "
            "than a constant, so these weights are not a proposal. Train longer proxy runs "
            "(--proxy_override trainer.train_steps=N, with another --model_dir) or more of them "
            "(--proxies N)"
        )
    if args.output:
        from keras_mtl.configuration.files import save_params
        from keras_mtl.proposal.writing import with_weights

        save_params(with_weights(config, proposal), args.output)
        print(f"configuration: {args.output}")
    return 0


def _write(
    args: argparse.Namespace, config: "ExperimentConfig", swarm: "Swarm", proposal: "Proposal"
) -> None:
    """Prints tables and the lines to paste, and writes the numbers and the picture."""
    from keras_mtl.figures.charts import save_png
    from keras_mtl.figures.proposal import draw_proposal
    from keras_mtl.files import replace_file
    from keras_mtl.proposal import writing

    print("error of the dev loss of left-out runs:")
    print_table(*writing.fit_table(proposal))
    print(f"\nproposal for {config.trainer.train_steps:,} steps:")
    print_table(*writing.weights_table(proposal))
    for line in writing.notes(proposal):
        print(line)
    if not proposal.poor():
        print(f"\n{writing.yaml_lines(proposal)}")
    text = json.dumps(writing.as_data(proposal), indent=1, ensure_ascii=False)
    print(f"numbers: {replace_file(swarm.directory / _DATA_FILE, text + chr(10))}")
    print(f"chart: {save_png(draw_proposal(proposal), swarm.directory / _PICTURE)}")


def _run_jobs(
    jobs: "Sequence[Job]", slots: int, descriptor: int, log: "Callable[[str], None]"
) -> None:
    """Runs jobs.

    Raises:
        KerasMtlError: a job failed.
        SystemExit: a signal arrived, after the runs have saved.
    """
    from keras_mtl.training.run.jobs import Pool

    pool = Pool(slots, log, [descriptor])
    pool.run(jobs)
    if pool.signal:
        log("interrupted; the same command resumes the proxy runs")
        raise SystemExit(128 + pool.signal)
    if pool.failed:
        raise errors.KerasMtlError(
            f"failed: {', '.join(pool.failed)}. Fix the error that their logs end with; the same "
            "command tries them again"
        )


def _importance(args: argparse.Namespace) -> dict[str, float]:
    """Returns `--importance` by task."""
    found = {}
    for name, value in common.parse_pairs("--importance", args.importance, "en-fr=2").items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise errors.InputError(f"--importance: {name}={value} is not a number")
        found[name] = float(value)
    return found


def _given_baselines(args: argparse.Namespace, tasks: "Sequence[str]") -> "np.ndarray | None":
    """Returns the losses in `--baselines_file` in the order of the tasks."""
    import numpy as np

    if not args.baselines_file:
        return None
    path = args.baselines_file
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        losses = [float(found[task]) for task in tasks]
    except (ValueError, TypeError, KeyError) as error:
        raise errors.DataError(
            f"{path}: expected a JSON object with a loss for each of {', '.join(tasks)} ({error})"
        ) from error
    for task, loss in zip(tasks, losses, strict=True):
        if not (np.isfinite(loss) and loss > 0):
            raise errors.DataError(f"{path}: {task} is {loss}; give a loss above 0")
    return np.array(losses)
