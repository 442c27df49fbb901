"""Compares schedules on the same tasks, data and seeds, by their scores on the test sets.

    python benchmarks/compare_schedules.py --config_file configs/demo.yaml --model_dir runs/compare

Trains the eight settings below with three seeds each, scores every run on the test sets, and writes
a Markdown table and the page of `keras-mtl report`. After an interruption, start it again: finished
runs are not repeated, and an interrupted run resumes. Schedules or seeds that a later call adds are
trained in addition.

If the configuration has no baselines, give --baseline_steps: a model for each task is then trained
first. One run takes about as long as `keras-mtl train` with the same configuration. --jobs N runs N
trainings at once and divides the processors among them. This is faster on a CPU, because a small
model gains little from a second core (the demo: 7,100 target tokens/s on one core, 7,800 on two).
The output of each run then goes to MODEL_DIR/<run>.log.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

IMPLICIT = {"schedule.name": "implicit", "schedule.parameters.prior": "temperature"}
# The fields of the trainer, without the seed, by the label of the setting.
SCHEDULES = {
    "proportional": {"schedule.name": "proportional"},
    "uniform": {"schedule.name": "uniform"},
    "temperature": {"schedule.name": "temperature", "schedule.parameters.temperature": 5},
    "inverse_ratio": {"schedule.name": "inverse_ratio"},
    "simple_adaptive": {"schedule.name": "simple_adaptive"},
    # The ways in which factors act with Adam.
    "implicit_gradient": {**IMPLICIT, "schedule.application": "gradient"},
    "implicit_learning_rate": {**IMPLICIT, "schedule.application": "learning_rate"},
    "implicit_per_task": {
        **IMPLICIT,
        "schedule.application": "learning_rate",
        "optimizer.moments": "per_task",
    },
}


def keras_mtl(*words, **settings):
    subprocess.run(
        [sys.executable, "-m", "keras_mtl.cli.main", *map(str, words)], check=True, **settings
    )


def override(args, settings, seed):
    """The --params_override of a run; it replaces all of the configuration's own schedule."""
    fields = {f"trainer.{key}": value for key, value in settings.items()}
    fields["runtime.seed"] = seed
    if args.baseline_steps:
        fields["trainer.schedule.baselines_file"] = f"{args.model_dir}/baselines/baselines.json"
    if args.train_steps:
        fields["trainer.train_steps"] = args.train_steps
    texts = [f"{key}={value}" for key, value in fields.items()]
    return ",".join([data_dir(args), *texts, *args.params_override])


def data_dir(args):
    """Returns the override with which all runs read the same prepared data."""
    return f"task.data.data_dir={args.model_dir}/data"


def has_baselines(args):
    """Whether every single-task model is trained; baselines.json gets an entry after each."""
    path = Path(args.model_dir) / "baselines/baselines.json"
    tasks = yaml.safe_load(Path(args.config_file).read_text(encoding="utf-8"))["task"]["pairs"]
    return path.exists() and len(json.loads(path.read_text(encoding="utf-8"))) == len(tasks)


def experiment(args):
    chosen = ["--experiment", args.experiment] if args.experiment else []
    return [*chosen, "--config_file", args.config_file]


def make_run(args, label, seed):
    """Trains and scores one schedule with one seed, unless it is done; returns the seconds."""
    directory = Path(args.model_dir) / f"{label}-{seed}"
    if (directory / "evaluation-test.json").exists():
        return 0.0
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        settings = {}
        if args.jobs > 1:
            threads = str(max(1, len(os.sched_getaffinity(0)) // args.jobs))
            names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
            log = stack.enter_context(open(f"{directory}.log", "a", encoding="utf-8"))
            settings = {
                "env": os.environ | dict.fromkeys(names, threads),
                "stdout": log,
                "stderr": subprocess.STDOUT,
            }
        keras_mtl(
            *("train", *experiment(args), "--model_dir", directory),
            *("--params_override", override(args, SCHEDULES[label], seed)),
            **settings,
        )
        keras_mtl("evaluate", "--model_dir", directory, **settings)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config_file", default="configs/demo.yaml")
    parser.add_argument("--experiment", default="translation/transformer_tiny")
    parser.add_argument("--model_dir", default="runs/compare", help="directory of all runs")
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=list(SCHEDULES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--train_steps", type=int, help="steps of each run (default: as configured)"
    )
    parser.add_argument(
        "--baseline_steps",
        type=int,
        help="also train a model for each task for this number of steps",
    )
    parser.add_argument("--params_override", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="number of runs at once")
    parser.add_argument("--report", help="directory of the report (default: MODEL_DIR/report)")
    args = parser.parse_args()

    if args.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {args.jobs}")
    # Prepared once here, so that several runs do not prepare it at the same time.
    keras_mtl(
        *("prepare", *experiment(args), "--model_dir", args.model_dir),
        *("--params_override", ",".join([data_dir(args), *args.params_override])),
    )
    if args.baseline_steps and not has_baselines(args):
        keras_mtl(
            *("baselines", *experiment(args), "--model_dir", f"{args.model_dir}/baselines"),
            *("--train_steps", args.baseline_steps),
            *("--params_override", ",".join([data_dir(args), *args.params_override])),
        )
    runs = [(label, seed) for seed in args.seeds for label in args.schedules]
    directories = {
        label: [str(Path(args.model_dir) / f"{label}-{seed}") for seed in args.seeds]
        for label in args.schedules
    }
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        waiting = {pool.submit(make_run, args, *run): run for run in runs}
        try:
            for number, future in enumerate(concurrent.futures.as_completed(waiting), 1):
                label, seed = waiting[future]
                print(
                    f"== {number} of {len(runs)}: {label}-{seed} {future.result():.0f} s",
                    flush=True,
                )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    output = args.report or f"{args.model_dir}/report"
    keras_mtl(
        *("report", *(directory for label in args.schedules for directory in directories[label])),
        *("--output", output),
    )


if __name__ == "__main__":
    main()
