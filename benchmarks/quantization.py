"""Compares models with and without quantization-aware training, in float32 and in int8.

    python benchmarks/quantization.py plain=runs/plain qat=runs/qat [--speed qat.kmtl]

Each argument names a run directory; all have the same tasks and prepared data. For each task the
first table has the chrF of the first model in float32 and in int8, and the differences of the other
models to the first one in int8, each with the p-value of a paired bootstrap over sentences.

With `--speed FILE`, an int8 engine file with fixed ranges of inputs translates random sources, in
turn with the same file without the ranges. The second table has the median target tokens per CPU
second of both on one core, and the median ratio of their CPU times.

The tables in `docs/how-to/quantization.md` are output of this script.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from keras_mtl.engine import Engine, open_model_file, write_model_file
from keras_mtl.engine.model_file import INPUT_RANGE
from keras_mtl.evaluation.evaluate import evaluate
from keras_mtl.evaluation.settings import EvaluationSettings
from keras_mtl.evaluation.significance import paired_bootstrap


def chrf(baseline: Any, result: Any, samples: int) -> tuple[float, float]:
    """Returns the difference of chrF to a baseline, and its p-value."""
    tests = paired_bootstrap(baseline.hypotheses, [result.hypotheses], result.references, samples)
    return dict(tests)["chrf"][0]


def print_scores(runs: dict[str, str], split: str, samples: int) -> None:
    """Prints the table of scores."""
    found = {}
    for name, run in runs.items():
        for compute_type in ("float32", "int8"):
            settings = EvaluationSettings(
                split=split, metrics=["chrf"], backend="native", compute_type=compute_type
            )
            output = Path(tempfile.mkdtemp()) / "report.json"
            results = evaluate(run, settings, output, log=lambda line: None).results
            found[name, compute_type] = results
    first, *others = runs
    columns = [f"{first} float32", f"{first} int8"]
    columns += [f"{name} {kind}" for name in others for kind in ("float32", "int8")]
    print(f"| task | pairs | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 2) + "|")
    base = found[first, "int8"]
    totals = np.zeros(len(columns))
    for task, result in base.items():
        cells, scores = [], []
        for name in runs:
            for kind in ("float32", "int8"):
                own = found[name, kind][task]
                scores.append(own.scores["chrf"])
                if own is result:
                    cells.append(f"{scores[-1]:.2f}")
                    continue
                difference, p_value = chrf(result, own, samples)
                cells.append(f"{scores[-1]:.2f} ({difference:+.2f}, p {p_value:.3f})")
        totals += scores
        print(f"| {task} | {result.pairs} | {' | '.join(cells)} |")
    print(f"| mean | | {' | '.join(f'{total:.2f}' for total in totals / len(base))} |")


def without_ranges(path: str, output: Path) -> Path:
    """Writes an engine file without its ranges of inputs."""
    file = open_model_file(path)
    names = [name for name in file.tensor_names if not name.endswith(INPUT_RANGE)]
    return write_model_file(
        output, file.hyperparameters, {name: np.array(file.tensor(name)) for name in names}
    )


def print_speed(path: str, rounds: int, batches: list[int], count: int) -> None:
    """Prints the table of speeds."""
    about = open_model_file(path).hyperparameters
    ids = np.random.default_rng(1).integers(300, about["vocabulary_size"], (count, 12)).tolist()
    sources = [[about["task_tags"][0], *row, about["eos_id"]] for row in ids]
    options = {"beam_size": 4, "min_length": 14, "max_length": 14}
    with tempfile.TemporaryDirectory() as directory:
        engines = {
            "by row": Engine(without_ranges(path, Path(directory) / "dynamic")),
            "fixed": Engine(path),
        }
        print(f"\n{count} random sources of 14 tokens, 14 target tokens, beam 4")
        print("| batch | scales by row | fixed scales | ratio |\n|---|---|---|---|")
        for batch in batches:
            taken: dict[str, list[float]] = {name: [] for name in engines}
            for number in range(rounds + 1):
                for name, engine in engines.items():
                    start = time.process_time()
                    engine.translate(sources, options, max_batch_size=batch)
                    if number:  # The first round warms up.
                        taken[name].append(time.process_time() - start)
            speed = {name: 14 * count / statistics.median(each) for name, each in taken.items()}
            ratio = statistics.median(
                a / b for a, b in zip(taken["by row"], taken["fixed"], strict=True)
            )
            print(f"| {batch} | {speed['by row']:,.0f} | {speed['fixed']:,.0f} | {ratio:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", metavar="NAME=DIR", help="run directories")
    parser.add_argument("--split", default="test")
    parser.add_argument("--samples", type=int, default=1000, help="bootstrap resamples")
    parser.add_argument("--speed", help="engine file in int8 with ranges of inputs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--count", type=int, default=64, help="number of sources")
    args = parser.parse_args()
    if args.runs:
        runs = dict(run.split("=", 1) for run in args.runs)
        print_scores(runs, args.split, args.samples)
    if args.speed:
        print_speed(args.speed, args.rounds, args.batches, args.count)


if __name__ == "__main__":
    main()
