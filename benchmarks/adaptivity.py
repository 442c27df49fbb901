"""Schedules side by side: the same tasks, steps and seeds, scored on the test sets.

    python benchmarks/adaptivity.py --config_file configs/demo.yaml --model_dir runs/compare \
        [--experiment NAME] [--schedules proportional uniform inverse_ratio] [--seeds 1 2 3]

Each run is a `keras-mtl train` in a folder of its own and goes on where it stopped; finished ones
are not repeated. The table gives BLEU / chrF for each task (mean over seeds), and the share of
batches that the task had.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path


def keras_mtl(*words):
    subprocess.run([sys.executable, "-m", "keras_mtl.cli.main", *words], check=True)


def run(folder, args, schedule, seed):
    """Trains and evaluates one schedule; returns {task: (BLEU, chrF, share of batches)}."""
    override = [
        f"trainer.schedule.name={schedule}",
        f"runtime.seed={seed}",
        f"task.data.data_dir={args.model_dir}/data",
        *args.params_override,
    ]
    report = folder / "evaluation-test.json"
    if not report.exists():
        experiment = ["--experiment", args.experiment] if args.experiment else []
        keras_mtl(
            *("train", *experiment, "--config_file", args.config_file),
            *("--model_dir", str(folder), "--params_override", ",".join(override)),
        )
        keras_mtl("evaluate", "--model_dir", str(folder))
    tasks = json.loads(report.read_text())["tasks"]
    events = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    batches = [event["batches"] for event in events if event["event"] == "train"][-1]
    total = sum(batches.values())
    return {
        name: (task["scores"]["bleu"], task["scores"]["chrf"], batches[name] / total)
        for name, task in tasks.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--config_file", default="configs/demo.yaml")
    parser.add_argument("--experiment", default="translation/transformer_tiny")
    parser.add_argument("--model_dir", default="runs/compare")
    parser.add_argument(
        "--schedules", nargs="+", default=["proportional", "uniform", "inverse_ratio"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--params_override", nargs="*", default=[])
    args = parser.parse_args()
    columns = {}
    for schedule in args.schedules:
        runs = [
            run(Path(args.model_dir) / f"{schedule}-{seed}", args, schedule, seed)
            for seed in args.seeds
        ]
        columns[schedule] = {
            task: [
                statistics.fmean(values) for values in zip(*(r[task] for r in runs), strict=True)
            ]
            for task in runs[0]
        }
    tasks = list(next(iter(columns.values())))
    width = max(len("average"), *map(len, tasks))
    print(f"BLEU / chrF on test, share of batches; seeds {args.seeds}")
    print(" " * width, *(f"{schedule:>22}" for schedule in columns))
    for task in tasks:
        cells = (
            f"{column[task][0]:5.1f} / {column[task][1]:5.1f}  {column[task][2]:6.1%}"
            for column in columns.values()
        )
        print(f"{task:<{width}}", *(f"{cell:>22}" for cell in cells))
    means = (
        [statistics.fmean(values[i] for values in column.values()) for i in (0, 1)]
        for column in columns.values()
    )
    print(f"{'average':<{width}}", *(f"{bleu:5.1f} / {chrf:5.1f}        " for bleu, chrf in means))


if __name__ == "__main__":
    main()
