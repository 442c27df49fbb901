r"""Compares schedules on the same tasks, data and seeds: a sweep that a YAML file declares.

    python benchmarks/compare_schedules.py benchmarks/evidence/short_demo.yaml \
      --model_dir runs/short_demo

Trains the single-task baselines first, then every setting with every seed, size and sharing that
the file names, scores each on the test sets, and writes the page of `keras-mtl report`, with its
tables as Markdown and as JSON. `benchmarks/sweep/definition.py` documents the file;
`benchmarks/evidence/` has examples.

Each run is a process on its own cores. --jobs sets the number of runs at once; the default is one
for each core, which is fastest, because a small model gains little from a second core (the demo:
7,100 target tokens/s on one core, 7,800 on two). The output of a run goes to a file next to its
directory. On Ctrl-C, the runs save and end. However the sweep ended, the same command resumes it:
finished runs are not repeated, and interrupted runs resume where they stopped. If the file has
changed, only the runs with another configuration are trained further or scored again.

With --results, the scores, translations and logs of finished runs are also kept in small files,
without weights. A sweep with the same data and configuration takes them from there, for example on
another machine: `benchmarks/evidence/results/` has those of the published tables.

--settings, --sizes, --sharings and --seeds restrict a call to a part of the sweep. The report can
be written at any time, also while the sweep runs: `keras-mtl report MODEL_DIR`.
"""

import argparse
import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sweep.definition import RunKey, read_definition
from sweep.planning import SweepPlan
from sweep.results import EVALUATION, Results

from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.data.prepared import read_manifest
from keras_mtl.errors import ConfigError, KerasMtlError
from keras_mtl.report.sweep.files import SWEEP_FILE, SWEEP_KIND
from keras_mtl.run_files import METRICS_FILE
from keras_mtl.training.run.jobs import CONFIG_FILE, Job, Pool, locked, write_config

_DEFAULT = Path(__file__).parent / "evidence/short_demo.yaml"


def job_of(name: str, directory: Path) -> Job:
    """Returns the job that trains a run and scores it."""
    config = str(directory / CONFIG_FILE)
    train = ["train", "--config_file", config, "--model_dir", str(directory)]
    evaluate = ["evaluate", "--model_dir", str(directory)]
    return Job(name, [train, evaluate], directory.with_name(f"{directory.name}.log"))


def is_done(directory: Path) -> bool:
    return (directory / EVALUATION).exists()


class PlannedRun(NamedTuple):
    """A run of a sweep.

    Attributes:
        name: its directory in that of the sweep.
        label: its name for messages.
        config: its configuration.
    """

    name: str
    label: str
    config: ExperimentConfig


def baseline_runs(plan: SweepPlan, keys: list[RunKey]) -> Iterator[PlannedRun]:
    """Yields the single-task runs."""
    if plan.definition.baselines is None:
        return
    for size in dict.fromkeys(key.size for key in keys):
        for pair in plan.base.task.pairs:
            config = plan.baseline_config(size, pair)
            name = f"baselines/{size}/{pair.name}"
            yield PlannedRun(name, f"baseline {size} {pair.name}", config)


def compared_runs(plan: SweepPlan, keys: list[RunKey]) -> Iterator[PlannedRun]:
    """Yields the runs of the settings."""
    for key in keys:
        label = f"{key.size}-{key.sharing}/{key.setting}-{key.seed}"
        yield PlannedRun(key.directory, label, plan.run_config(key))


def jobs_of(plan: SweepPlan, runs: Sequence[PlannedRun], results: Results | None) -> list[Job]:
    """Returns the jobs of the runs that are not done, after those with recorded results are."""
    jobs = []
    for run in runs:
        directory = plan.directory / run.name
        if results is not None and not (directory / METRICS_FILE).exists():
            results.restore(run.name, directory, run.config)
        write_config(run.config, directory)
        if not is_done(directory):
            jobs.append(job_of(run.label, directory))
    return jobs


def write_manifest(plan: SweepPlan) -> None:
    """Writes `sweep.json`, from which `keras-mtl report` knows the runs."""
    definition = plan.definition
    manifest = read_manifest(str(plan.directory / "data"))
    assert manifest is not None
    sizes = {task["name"]: task["train_size"] for task in manifest["tasks"]}
    ordered = sorted(sizes, key=lambda task: -sizes[task])
    half = (len(ordered) + 1) // 2
    with_baselines = definition.sizes if definition.baselines is not None else ()
    content = {
        "kind": SWEEP_KIND,
        "name": definition.path.stem,
        "high_resource": list(definition.high_resource) or ordered[:half],
        "low_resource": list(definition.low_resource) or ordered[half:],
        "runs": [{"directory": key.directory, **key._asdict()} for key in definition.run_keys()],
        "baselines": [
            {"directory": f"baselines/{size}/{task}", "size": size, "task": task}
            for size in with_baselines
            for task in sizes
        ],
    }
    path = plan.directory / SWEEP_FILE
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def chosen(plan: SweepPlan, args: argparse.Namespace) -> list[RunKey]:
    """Returns the runs that the arguments choose."""
    wanted = (args.settings, args.sizes, args.sharings, args.seeds)
    definition = plan.definition
    known = (definition.settings, definition.sizes, definition.sharings, definition.seeds)
    names = ("--settings", "--sizes", "--sharings", "--seeds")
    for name, members, axis in zip(names, wanted, known, strict=True):
        for member in members or ():
            if member not in axis:
                raise ConfigError(
                    f"{name} {member}: {definition.path} has {', '.join(map(str, axis))}"
                )
    return [
        key
        for key in definition.run_keys()
        if all(not members or part in members for members, part in zip(wanted, key, strict=True))
    ]


def run_sweep(plan: SweepPlan, keys: list[RunKey], jobs: int, results: Path | None) -> int:
    """Runs what is not done, and writes the report; returns the exit code."""
    log = functools.partial(print, flush=True)
    output = plan.directory / "report"
    failed: list[str] = []
    with locked(plan.directory, log) as descriptor:
        write_config(plan.base, plan.directory)
        for stage in stages(plan, keys, jobs, results, output):
            pool = Pool(stage.slots, log, [descriptor])
            pool.run(stage.jobs)
            stage.finish()
            if pool.signal:
                log("interrupted; the same command resumes the sweep")
                return 128 + pool.signal
            failed += pool.failed
            if pool.failed and stage.required:
                break
    if failed:
        log(f"failed: {', '.join(failed)}. The same command tries them again")
        return 1
    log(f"page: {output}/index.html")
    return 0


class Stage(NamedTuple):
    """Jobs that may run side by side.

    Attributes:
        jobs: the jobs.
        slots: number of jobs at once.
        required: whether the next stage needs all of them.
        finish: function that is called when they have ended, also after a signal.
    """

    jobs: list[Job]
    slots: int
    required: bool
    finish: Callable[[], None] = lambda: None


def stages(
    plan: SweepPlan, keys: list[RunKey], jobs: int, directory: Path | None, output: Path
) -> Iterator[Stage]:
    """Yields the stages of a sweep: data, baselines, runs, report."""
    prepare = ["prepare", "--config_file", str(plan.directory / CONFIG_FILE)]
    yield Stage([Job("data", [prepare], plan.directory / "prepare.log")], 1, True)
    write_manifest(plan)
    results = None if directory is None else Results(directory, plan.directory / "data")

    def stage(planned: Iterator[PlannedRun], required: bool) -> Stage:
        runs = list(planned)

        def record() -> None:
            for run in runs:
                if results is not None and is_done(plan.directory / run.name):
                    results.record(run.name, plan.directory / run.name, run.config)

        return Stage(jobs_of(plan, runs, results), jobs, required, record)

    yield stage(baseline_runs(plan, keys), True)
    if plan.definition.baselines is not None:
        for size in dict.fromkeys(key.size for key in keys):
            plan.record_baselines(size)
    yield stage(compared_runs(plan, keys), False)
    report = ["report", str(plan.directory), "--output", str(output)]
    yield Stage([Job("report", [report], plan.directory / "report.log")], 1, True)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say where and how runs are trained."""
    parser.add_argument(
        "--model_dir", type=Path, help="directory of all runs (default: runs/NAME of the sweep)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="number of runs at once (default: one for each core)",
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="directory with a small file of results for each finished run; files that are missing "
        "are written, and runs whose files are there are not repeated",
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sweep",
        type=Path,
        metavar="YAML",
        nargs="?",
        default=_DEFAULT,
        help="file of the sweep (default: the short comparison on the demo)",
    )
    add_run_arguments(parser)
    parser.add_argument("--settings", nargs="+", help="settings to run (default: all)")
    parser.add_argument("--sizes", nargs="+", help="sizes to run (default: all)")
    parser.add_argument("--sharings", nargs="+", help="sharings to run (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, help="seeds to run (default: all)")
    parser.add_argument(
        "--params_override",
        action="append",
        default=[],
        metavar="FIELD=VALUE,...",
        help="overrides of every run; the same ones are needed to resume",
    )
    parser.add_argument("--dry_run", action="store_true", help="print the runs and their state")
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {args.jobs}")
    try:
        directory = args.model_dir or Path("runs") / args.sweep.stem
        plan = SweepPlan(read_definition(args.sweep), directory, args.params_override)
        keys = chosen(plan, args)
        plan.check()
        if args.dry_run:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--dry_run | head` ends quietly.
            for key in keys:
                state = "done" if is_done(plan.directory / key.directory) else "to do"
                print(f"{key.directory}: {state}")
            return 0
        return run_sweep(plan, keys, args.jobs, args.results)
    except KerasMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
