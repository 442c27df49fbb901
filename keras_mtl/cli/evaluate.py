"""`keras-mtl evaluate`: scores every task of a trained model."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_mtl import metrics
from keras_mtl.cli.arguments import (
    check_checkpoint,
    check_input_file,
    check_model,
    positive_int,
)
from keras_mtl.cli.common import (
    add_backend_arguments,
    backend_arguments,
    check_backend_arguments,
)
from keras_mtl.cli.printing import print_table
from keras_mtl.errors import ConfigError

if TYPE_CHECKING:
    from keras_mtl.evaluation.compute_types import ComputeTypeChange
    from keras_mtl.evaluation.results import TaskResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="directory of the run")
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint to use (default: the best or the newest)"
    )
    _add_pairs_arguments(parser.add_argument_group("data"))
    _add_score_arguments(parser.add_argument_group("scoring"))
    add_backend_arguments(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        metavar="JSON",
        help="file of the report (default: DIR/evaluation-SPLIT.json, or evaluation-NAME.json for "
        "--corpora NAME.yaml; partial evaluations get other names and never replace complete ones)",
    )
    output.add_argument("--json", action="store_true", help="print the report instead of the table")


def _add_pairs_arguments(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--split",
        default="test",
        choices=["dev", "test", "train"],
        help="split of the run's data; use train only with --compare_with, because the model has "
        "seen it",
    )
    group.add_argument(
        "--corpora",
        metavar="YAML",
        help="file with a list of corpora to score instead of --split, in the format of "
        "task.data.corpora; an entry may list its tasks",
    )
    group.add_argument(
        "--unseen",
        action="store_true",
        help="with --corpora: skip pairs whose source is in the training data",
    )
    group.add_argument("--tasks", nargs="+", metavar="TASK", help="tasks to score (default: all)")
    group.add_argument(
        "--max_pairs",
        type=positive_int,
        metavar="N",
        help="maximum of pairs per task (default: all)",
    )
    group.add_argument(
        "--copy_source",
        action="store_true",
        help="also score the source used as translation",
    )


def _add_score_arguments(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--metrics",
        nargs="+",
        default=list(metrics.TEXT_METRICS),
        metavar="METRIC",
        help=f"metrics: {', '.join(metrics.available())}, or metrics of plug-ins",
    )
    group.add_argument(
        "--beam_size",
        type=positive_int,
        metavar="K",
        help="beam size (default: that of the run's task.decoding)",
    )
    group.add_argument(
        "--on_long_line",
        default="error",
        choices=["error", "truncate", "skip"],
        help="for a source longer than the model's positions: stop with an error, translate its "
        "beginning, or use an empty translation",
    )
    group.add_argument(
        "--compare_with",
        choices=("float32", "int8"),
        help="also score with this compute type and print the differences of the scores, with "
        "p-values of a paired bootstrap",
    )
    group.add_argument(
        "--samples", type=positive_int, default=1000, metavar="N", help="bootstrap samples"
    )


def run(args: argparse.Namespace) -> int:
    """Scores the tasks, prints a table and writes the report; returns the exit code."""
    # Imported here because they import NumPy, which `--help` does not need.
    from keras_mtl.evaluation.evaluate import evaluate
    from keras_mtl.evaluation.settings import EvaluationSettings

    names = {field.name for field in dataclasses.fields(EvaluationSettings)}
    given = {name: value for name, value in vars(args).items() if name in names}
    evaluation = evaluate(
        args.model_dir, EvaluationSettings(**given | backend_arguments(args)), args.output
    )
    # Print the scores first, in case the report cannot be written, and write the report even if
    # printing fails, for example with `| head`. The scores may have taken hours.
    try:
        if args.json:
            print(json.dumps(evaluation.report(), indent=2, ensure_ascii=False))
        else:
            print_results(
                evaluation.results, evaluation.copied, evaluation.changes, args.compare_with or ""
            )
        sys.stdout.flush()
    finally:
        path = evaluation.write()
    if not args.json:
        print(f"report: {path}")
    return 0


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the arguments, without plug-ins and TensorFlow.

    Raises:
        ConfigError: two arguments are inconsistent, or a file cannot be read.
        CheckpointError: the checkpoint does not exist.
        InputError: the directory is not a trained model.
    """
    check_backend_arguments(args)
    check_model("--model_dir", args.model_dir, "a model directory", directory_only=True)
    check_checkpoint(args.checkpoint)
    if args.unseen and not args.corpora:
        raise ConfigError("--unseen requires --corpora")
    if not args.corpora:
        return
    check_input_file("--corpora", args.corpora)
    # Imports NumPy, which `--help` does not need.
    from keras_mtl.data.split import SPLITS

    if not args.output and Path(args.corpora).stem in SPLITS:
        raise ConfigError(
            f"--corpora {args.corpora}: the report would have the same name as that of --split "
            f"{Path(args.corpora).stem}. Give --output, or rename the file"
        )


def print_results(
    results: Mapping[str, "TaskResult"],
    copied: "Mapping[str, TaskResult] | None" = None,
    compared: "Mapping[str, ComputeTypeChange] | None" = None,
    compared_type: str = "",
) -> None:
    """Prints a table of scores, their mean over tasks, and the signatures of the metrics.

    Args:
        results: scores of each task.
        copied: scores of the source used as translation, shown in additional columns; None: none.
        compared: comparison with another compute type by task, shown in additional columns; None:
            none.
        compared_type: the other compute type.
    """
    from keras_mtl.evaluation.results import all_signatures

    signatures = all_signatures(results)

    def scores(of: Mapping[str, "TaskResult"], name: str) -> list[float | None]:
        return [of[task].scores.get(name) if task in of else None for task in results]

    columns = [(metrics.title(name), "", scores(results, name)) for name in signatures]
    if copied:
        for name in all_signatures(copied):
            columns.append((f"{metrics.title(name)} of source", "", scores(copied, name)))
    if compared:
        changed = {task: 100 * change.changed for task, change in compared.items()}
        columns.append(("changed %", "", [changed.get(task) for task in results]))
        for name in next(iter(compared.values())).differences:
            differences = {task: change.differences[name] for task, change in compared.items()}
            p_values = {task: change.p_values[name] for task, change in compared.items()}
            title = f"{metrics.title(name)} against {compared_type}"
            columns.append((title, "+", [differences.get(task) for task in results]))
            columns.append(("p", "", [p_values.get(task) for task in results]))

    def shown(title: str, sign: str, value: float | None) -> str:
        if value is None:
            return "-"
        return "<0.01" if title == "p" and value < 0.01 else f"{value:{sign}.2f}"

    rows = [
        [task, f"{result.pairs:,}", *(shown(title, sign, of[i]) for title, sign, of in columns)]
        for i, (task, result) in enumerate(results.items())
    ]
    means = (
        "-" if title == "p" else shown(title, sign, _mean(values))
        for title, sign, values in columns
    )
    print_table(
        ["task", "pairs", *(title for title, _, _ in columns)], [*rows, ["mean", "-", *means]]
    )
    for name, signature in signatures.items():
        print(f"{metrics.title(name)}: {signature}")


def _mean(values: Sequence[float | None]) -> float:
    """Returns the mean of the values of the tasks that have one."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known)
