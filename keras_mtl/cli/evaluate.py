"""``keras-mtl evaluate``: scores every task of a trained model."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from keras_mtl.cli.evaluator import make_evaluator
from keras_mtl.cli.inspect import print_table
from keras_mtl.data.split import SPLITS
from keras_mtl.errors import ConfigError, nearest_task

if TYPE_CHECKING:
    from keras_mtl.evaluation.evaluator import Evaluator, TaskResult
    from keras_mtl.evaluation.reports import ScoredPairs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="directory of the run")
    parser.add_argument(
        "--split",
        default="test",
        choices=["dev", "test", "train"],
        help="what is scored of the run's data; train is large and already seen: use it only with "
        "--compare_with",
    )
    parser.add_argument(
        "--corpora",
        metavar="YAML",
        help="score the pairs of these corpora instead: a file with a list like that of "
        "task.data.corpora, whose entries may name their tasks; --split does not apply",
    )
    parser.add_argument(
        "--unseen",
        action="store_true",
        help="with --corpora: leave out pairs whose source is in the training data",
    )
    parser.add_argument(
        "--on_long_line",
        default="error",
        choices=["error", "truncate", "skip"],
        help="what to do with a source longer than the model's positions",
    )
    parser.add_argument(
        "--tasks", nargs="+", metavar="TASK", help="tasks to score (default: all of them)"
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=list(metrics.TEXT_METRICS),
        metavar="METRIC",
        help=f"out of {', '.join(metrics.available())}, and those of plug-ins",
    )
    parser.add_argument(
        "--max_pairs", type=positive_int, metavar="N", help="most pairs of a task (default: all)"
    )
    parser.add_argument(
        "--beam_size",
        type=positive_int,
        metavar="K",
        help="beam (default: task.decoding of the run)",
    )
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint to read (default: the best, else newest)"
    )
    parser.add_argument(
        "--copy_source",
        action="store_true",
        help="also score the source itself as if it were the translation",
    )
    parser.add_argument(
        "--output",
        metavar="JSON",
        help="report (default: DIR/evaluation-SPLIT.json, or evaluation-NAME.json for NAME.yaml; a "
        "report that has more stays, and a partial one gets a name of its own)",
    )
    add_backend_arguments(parser)
    parser.add_argument(
        "--compare_with",
        choices=("float32", "int8"),
        help="also score in this compute type, and print by how much the scores differ from it, "
        "with the p-value of a paired bootstrap",
    )
    parser.add_argument(
        "--samples", type=positive_int, default=1000, metavar="N", help="of the bootstrap"
    )
    parser.add_argument("--json", action="store_true", help="print the report, not the table")


def run(args: argparse.Namespace) -> int:
    """Scores the tasks, prints a table, writes the report; returns the exit code."""
    _check_tasks(args)
    from keras_mtl.evaluation.reports import check_writable, report, write_report

    whole = report_path(args)
    check_writable(whole)
    text_metrics = [name for name in args.metrics if metrics.compares_text(name)]
    settings: dict[str, Any] = {
        "split": args.split,
        "corpora": args.corpora,
        "unseen": args.unseen,
        "on_long_line": args.on_long_line,
        "tasks": args.tasks,
        "metric_names": args.metrics,
        "max_pairs": args.max_pairs,
        "beam_size": args.beam_size,
        "checkpoint": args.checkpoint,
        **backend_arguments(args),
    }
    evaluator, about = make_evaluator(args.model_dir, **settings)
    scored = evaluator.scored_pairs
    path = choose_path(args, whole, scored, about["partial"])
    compared: dict[str, Comparison] = {}
    if args.compare_with is not None:
        # First, so that arguments that do not fit are refused before the long work.
        settings |= {"compute_type": args.compare_with, "metric_names": text_metrics}
        settings |= {"pairs": evaluator.prepared}
        other, _ = make_evaluator(args.model_dir, **settings)
        baseline = other.evaluate(log=_to_stderr)
    results = evaluator.evaluate(log=_to_stderr)
    if args.compare_with is not None:
        for name, result in results.items():
            compared[name] = compare(result, baseline[name], args.samples)
        about["compared"] = {
            "compute_type": args.compare_with,
            "samples": args.samples,
            "tasks": {name: dataclasses.asdict(change) for name, change in compared.items()},
        }
    copied = _copied(args, evaluator, text_metrics) if args.copy_source and text_metrics else None
    if copied:
        about["copied_source"] = {name: dict(result.scores) for name, result in copied.items()}
    # Scores that cost hours are on the terminal before the disk can refuse them, and in the report
    # if the reader of the output has gone (`| head`).
    try:
        if args.json:
            print(json.dumps(report(results, scored, **about), indent=2, ensure_ascii=False))
        else:
            print_results(results, copied, compared, args.compare_with or "")
        sys.stdout.flush()
    finally:
        write_report(path, results, scored, **about)
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


def _check_tasks(args: argparse.Namespace) -> None:
    """Checks metrics, tasks and corpora, which plug-ins may define; still without TensorFlow.

    Raises:
      ConfigError: a metric is unknown, or a list of corpora is wrong or names an unknown task.
      InputError: the model has no such task.
    """
    # These import NumPy, which `--help` does not need.
    from keras_mtl.data.given_pairs import load_corpora
    from keras_mtl.decoding.tasks import TaskList, find_task

    for name in args.metrics:
        metrics.check_metric(name)
    tasks = TaskList.read(args.model_dir).tasks
    for name in args.tasks or ():
        find_task(tasks, name)
    known = [task.name for task in tasks]
    for number, corpus in enumerate(load_corpora(args.corpora) if args.corpora else ()):
        for name in corpus.tasks or ():
            if name not in known:
                place = f"{args.corpora}[{number}].tasks"
                raise ConfigError(f"{place}: unknown task {name!r}{nearest_task(name, known)}")


def report_path(args: argparse.Namespace) -> Path:
    """Returns the path of the report, if nothing better is there already."""
    if args.output:
        return Path(args.output)
    part = Path(args.corpora).stem if args.corpora else args.split
    return Path(args.model_dir) / f"evaluation-{part}.json"


def choose_path(
    args: argparse.Namespace, whole: Path, scored: "Mapping[str, ScoredPairs]", partial: list[str]
) -> Path:
    """Returns where the report goes so that no other report is lost.

    A report that has more pairs, tasks or metrics stays; a partial one then gets a name of its own.

    Args:
      args: the arguments.
      whole: of `report_path`.
      scored: what is about to be scored.
      partial: in which respects it is not whole.

    Raises:
      ConfigError: the report of other sentences has this name.
    """
    from keras_mtl.evaluation.reports import obstacle, read_report, selection_name

    what = args.corpora or args.split
    path = whole
    old = read_report(path)
    found = obstacle(old, scored, args.metrics, what) if old else None
    if found and not found.other_sentences and not args.output:
        name = selection_name(whole.stem, args.tasks, args.max_pairs, args.metrics)
        path = whole.with_name(name)
        _to_stderr(f"{whole} stays, because {found.reason}; this report goes to {path}")
        old = read_report(path)
        found = obstacle(old, scored, args.metrics, what) if old else None
    if found:
        raise ConfigError(
            f"{path} is another report, and {found.reason}; give --output with another name, or "
            "delete it"
        )
    if partial:
        shown = ", ".join(partial[:4]) + (f" and {len(partial) - 4} more" if partial[4:] else "")
        _to_stderr(f"a partial evaluation: {shown}")
    return path


def _copied(
    args: argparse.Namespace, evaluator: "Evaluator", text_metrics: list[str]
) -> "dict[str, TaskResult]":
    """Scores the sources themselves as if they were the translations."""
    from keras_mtl.evaluation.evaluator import CopySource, Evaluator

    copy = Evaluator(
        evaluator.prepared, CopySource(), text_metrics, args.max_pairs, args.split, evaluator.tasks
    )
    return copy.evaluate()


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A task's translations against those that another compute type made of the same sentences.

    Attributes:
      changed: share of the sentences whose translation is another one.
      differences: score less that of the other type, by metric.
      p_values: of these differences, by metric: how probable one as large is by chance.
    """

    changed: float
    differences: Mapping[str, float]
    p_values: Mapping[str, float]


def compare(result: "TaskResult", other: "TaskResult", samples: int) -> Comparison:
    """Compares two results on the same sentences by paired bootstrap, with `samples` samples."""
    from keras_mtl.report.significance import paired_bootstrap

    pairs = zip(result.hypotheses, other.hypotheses, strict=True)
    changed = sum(ours != theirs for ours, theirs in pairs) / result.pairs
    differences, p_values = {}, {}
    tests = paired_bootstrap(other.hypotheses, [result.hypotheses], result.references, samples)
    for metric, [(difference, p_value)] in tests:
        if metric in result.scores:
            differences[metric], p_values[metric] = difference, p_value
    return Comparison(changed, differences, p_values)


def print_results(
    results: Mapping[str, "TaskResult"],
    copied: Mapping[str, "TaskResult"] | None = None,
    compared: Mapping[str, Comparison] | None = None,
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


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
