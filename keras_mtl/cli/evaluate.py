"""`keras-mtl evaluate`: scores every task of a trained model."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
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
from keras_mtl.data.split import SPLITS
from keras_mtl.errors import ConfigError

if TYPE_CHECKING:
    from keras_mtl.evaluation.compute_types import ComputeTypeChange
    from keras_mtl.evaluation.results import TaskResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="directory of the run")
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint to read (default: the best, else newest)"
    )
    _add_pairs_arguments(parser.add_argument_group("what is scored"))
    _add_score_arguments(parser.add_argument_group("how it is scored"))
    add_backend_arguments(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        metavar="JSON",
        help="report (default: DIR/evaluation-SPLIT.json, or evaluation-NAME.json for NAME.yaml; a "
        "report that has more stays, and a partial one gets its own name)",
    )
    output.add_argument("--json", action="store_true", help="print the report, not the table")


def _add_pairs_arguments(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--split",
        default="test",
        choices=["dev", "test", "train"],
        help="part of the run's data; train is large and already seen: use it only with "
        "--compare_with",
    )
    group.add_argument(
        "--corpora",
        metavar="YAML",
        help="score the pairs of these corpora instead: a file with a list like that of "
        "task.data.corpora, whose entries may name their tasks; --split does not apply",
    )
    group.add_argument(
        "--unseen",
        action="store_true",
        help="with --corpora: leave out pairs whose source is in the training data",
    )
    group.add_argument(
        "--tasks", nargs="+", metavar="TASK", help="tasks to score (default: all of them)"
    )
    group.add_argument(
        "--max_pairs", type=positive_int, metavar="N", help="most pairs of a task (default: all)"
    )
    group.add_argument(
        "--copy_source",
        action="store_true",
        help="also score the source itself as if it were the translation",
    )


def _add_score_arguments(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--metrics",
        nargs="+",
        default=list(metrics.TEXT_METRICS),
        metavar="METRIC",
        help=f"out of {', '.join(metrics.available())}, and those of plug-ins",
    )
    group.add_argument(
        "--beam_size",
        type=positive_int,
        metavar="K",
        help="beam (default: task.decoding of the run)",
    )
    group.add_argument(
        "--on_long_line",
        default="error",
        choices=["error", "truncate", "skip"],
        help="what to do with a source longer than the model's positions",
    )
    group.add_argument(
        "--compare_with",
        choices=("float32", "int8"),
        help="also score in this compute type, and print by how much the scores differ from it, "
        "with the p-value of a paired bootstrap",
    )
    group.add_argument(
        "--samples", type=positive_int, default=1000, metavar="N", help="resamples of the bootstrap"
    )


def run(args: argparse.Namespace) -> int:
    """Scores the tasks, prints a table, writes the report; returns the exit code."""
    # These import NumPy, which `--help` does not need.
    from keras_mtl.evaluation.evaluate import evaluate
    from keras_mtl.evaluation.settings import EvaluationSettings

    names = {field.name for field in dataclasses.fields(EvaluationSettings)}
    given = {name: value for name, value in vars(args).items() if name in names}
    evaluation = evaluate(
        args.model_dir, EvaluationSettings(**given | backend_arguments(args)), args.output
    )
    # Scores that took hours are on the terminal before the disk can refuse them, and in the report
    # if the reader of the output has closed it (`| head`).
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
    """Checks what needs neither plug-ins nor TensorFlow.

    Raises:
        ConfigError: two arguments do not fit together, or a file cannot be read.
        CheckpointError: there is no such checkpoint.
        InputError: there is no trained model.
    """
    check_backend_arguments(args)
    check_model("--model_dir", args.model_dir, "a model directory", directory_only=True)
    check_checkpoint(args.checkpoint)
    if args.unseen and not args.corpora:
        raise ConfigError("--unseen chooses among the pairs of --corpora; give that too")
    if not args.corpora:
        return
    check_input_file("--corpora", args.corpora)
    if not args.output and Path(args.corpora).stem in SPLITS:
        raise ConfigError(
            f"--corpora {args.corpora}: the report would have the name of that of --split "
            f"{Path(args.corpora).stem}; give --output, or rename the file"
        )


def print_results(
    results: Mapping[str, "TaskResult"],
    copied: "Mapping[str, TaskResult] | None" = None,
    compared: "Mapping[str, ComputeTypeChange] | None" = None,
    compared_type: str = "",
) -> None:
    """Prints a table of scores, their mean over tasks, and the signatures.

    Args:
        results: scores of each task.
        copied: scores of the source as if it were the translation, shown in additional columns.
        compared: comparison with another compute type by task, shown in additional columns.
        compared_type: the name of that type.
    """
    first = next(iter(results.values()))

    def scores(of: Mapping[str, "TaskResult"], name: str) -> list[float]:
        return [of[task].scores[name] for task in results]

    columns = [(metrics.title(name), "", scores(results, name)) for name in first.scores]
    if copied:
        for name in next(iter(copied.values())).scores:
            columns.append((f"{metrics.title(name)} of source", "", scores(copied, name)))
    if compared:
        changes = [compared[task] for task in results]
        columns.append(("changed %", "", [100 * change.changed for change in changes]))
        for name in changes[0].differences:
            title = f"{metrics.title(name)} against {compared_type}"
            columns.append((title, "+", [change.differences[name] for change in changes]))
            columns.append(("p", "", [change.p_values[name] for change in changes]))

    def shown(title: str, sign: str, value: float) -> str:
        return "<0.01" if title == "p" and value < 0.01 else f"{value:{sign}.2f}"

    rows = [
        [task, f"{result.pairs:,}", *(shown(title, sign, of[i]) for title, sign, of in columns)]
        for i, (task, result) in enumerate(results.items())
    ]
    means = (
        "-" if title == "p" else f"{sum(values) / len(values):{sign}.2f}"
        for title, sign, values in columns
    )
    print_table(
        ["task", "pairs", *(title for title, _, _ in columns)], [*rows, ["mean", "-", *means]]
    )
    for name in first.scores:
        print(f"{metrics.title(name)}: {first.signatures[name]}")
