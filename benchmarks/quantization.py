"""Compares models with and without quantization-aware training, in float32 and in int8.

    python benchmarks/quantization.py plain=runs/plain qat=runs/qat
    python benchmarks/quantization.py --speed [FILE]

Each argument of the first command names a run directory; all have the same tasks and prepared data.
For each task the table has the chrF of each model in float32 and in int8. In brackets are the
difference to the first model in int8 and the p-value of a paired bootstrap over sentences.

With `--speed`, an int8 engine file with fixed ranges of inputs in all layers translates random
sources, in turn with the same file without ranges. The default is a model of random weights with
the sizes of `configs/gettext_romance.yaml` (3 + 2 layers, d 192, V 8,000). The table has the median
target tokens per CPU second on one core, and the median ratio of CPU times.

Measured on a busy machine with AVX-512 VNNI, medians of 7 rounds, tokens per CPU second with scales
by row and with fixed scales: batch 1: 6,394 and 6,316; batch 8: 11,256 and 11,320; batch 32: 11,913
and 11,770. The differences are within the noise: an earlier round had 6,907 and 7,052, 11,327 and
11,224, 11,422 and 11,509.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from decode import IdVocabulary
from random_transformer import RandomTransformer

from keras_mtl.decoding.engine_file import write_engine_file
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.engine import Engine, open_model_file, write_model_file
from keras_mtl.engine.model_file import INPUT_RANGE
from keras_mtl.evaluation.evaluate import evaluate
from keras_mtl.evaluation.settings import EvaluationSettings
from keras_mtl.evaluation.significance import paired_bootstrap

LENGTH = 14
SIZES = {
    "vocabulary_size": 8000,
    "hidden_dim": 192,
    "num_heads": 6,
    "intermediate_dim": 768,
    "encoder_layers": 3,
    "decoder_layers": 2,
}


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


class Ids(IdVocabulary):
    """The vocabulary of the random model."""

    size = SIZES["vocabulary_size"]


def random_file(path: Path) -> Path:
    """Writes the engine file of a model of random weights."""
    vocabulary: Any = Ids()
    tasks = [TranslationTask("random", "en", "fr")]
    model = RandomTransformer(SIZES, seed=1)
    return write_engine_file(model, vocabulary, tasks, path, weight_type="int8")


def with_ranges(path: Path, value: float, output: Path) -> Path:
    """Writes an engine file with a range of the inputs of all layers, or with none for 0."""
    file = open_model_file(path)
    names = [name for name in file.tensor_names if not name.endswith(INPUT_RANGE)]
    tensors = {name: np.array(file.tensor(name)) for name in names}
    for name in names if value else ():
        if name.endswith(".weight"):
            own = name.removesuffix(".weight") + INPUT_RANGE
            tensors[own] = np.array([value], np.float32)
    return write_model_file(output, file.hyperparameters, tensors)


def print_speed(path: str, rounds: int, batches: list[int], count: int) -> None:
    """Prints the table of speeds."""
    options = {"beam_size": 4, "min_length": LENGTH, "max_length": LENGTH}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(path) if path else random_file(Path(directory) / "random")
        about = open_model_file(file).hyperparameters
        random = np.random.default_rng(1)
        ids = random.integers(300, about["vocabulary_size"], (count, LENGTH - 2)).tolist()
        sources = [[about["task_tags"][0], *row, about["eos_id"]] for row in ids]
        engines = {
            name: Engine(with_ranges(file, value, Path(directory) / name))
            for name, value in (("row", 0.0), ("fixed", 6.0))
        }
        print(f"{count} random sources of {LENGTH} tokens, {LENGTH} target tokens, beam 4")
        print("| batch | scales by row | fixed scales | ratio |\n|---|---|---|---|")
        for batch in batches:
            taken: dict[str, list[float]] = {name: [] for name in engines}
            for number in range(rounds + 1):
                for name in sorted(engines, reverse=bool(number % 2)):
                    start = time.process_time()
                    engines[name].translate(sources, options, max_batch_size=batch)
                    if number:  # The first round warms up.
                        taken[name].append(time.process_time() - start)
            speed = {name: LENGTH * count / statistics.median(t) for name, t in taken.items()}
            pairs = zip(taken["row"], taken["fixed"], strict=True)
            ratio = statistics.median(row / fixed for row, fixed in pairs)
            print(f"| {batch} | {speed['row']:,.0f} | {speed['fixed']:,.0f} | {ratio:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", metavar="NAME=DIR", help="run directories")
    parser.add_argument("--split", default="test")
    parser.add_argument("--samples", type=int, default=1000, help="bootstrap resamples")
    parser.add_argument("--speed", nargs="?", const="", help="engine file in int8, or none")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--count", type=int, default=64, help="number of sources")
    args = parser.parse_args()
    if args.runs:
        runs = dict(run.split("=", 1) for run in args.runs)
        print_scores(runs, args.split, args.samples)
    if args.speed is not None:
        print_speed(args.speed, args.rounds, args.batches, args.count)


if __name__ == "__main__":
    main()
