"""``keras-mtl evaluate``: scores every task of a trained model."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_mtl import metrics
from keras_mtl.cli.common import add_backend_arguments, backend_arguments
from keras_mtl.cli.inspect import print_table
from keras_mtl.data.split import SPLITS
from keras_mtl.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from keras_mtl.data.given_pairs import GivenPairs
    from keras_mtl.data.prepared import PreparedData
    from keras_mtl.data.vocabulary import Vocabulary
    from keras_mtl.training.evaluation import TaskResult

TITLES = {"bleu": "BLEU", "chrf": "chrF", "neg_log_perplexity": "-log ppl"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--split",
        default="test",
        choices=["dev", "test", "train"],
        help="what is scored of the run's data; train is large and already seen: for "
        "--compare_with alone",
    )
    parser.add_argument(
        "--corpora",
        metavar="YAML",
        help="score the pairs of these corpora instead: a file with a list as that of "
        "task.data.corpora; --split does not apply",
    )
    parser.add_argument(
        "--unseen",
        action="store_true",
        help="with --corpora: without the pairs whose source is in training data",
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
        choices=metrics.METRICS,
        metavar="METRIC",
        help=f"out of {', '.join(metrics.METRICS)}",
    )
    parser.add_argument(
        "--max_pairs", type=int, metavar="N", help="most pairs of a task (default: all)"
    )
    parser.add_argument(
        "--beam_size", type=int, metavar="K", help="beam (default: task.decoding of the run)"
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
        help="report (default: DIR/evaluation-SPLIT.json, or evaluation-NAME.json for NAME.yaml)",
    )
    add_backend_arguments(parser)
    parser.add_argument(
        "--compare_with",
        choices=("float32", "int8"),
        help="also score in this compute type, and print by how much the scores differ from it, "
        "with the p-value of a paired bootstrap",
    )
    parser.add_argument("--samples", type=int, default=1000, metavar="N", help="of the bootstrap")
    parser.add_argument("--json", action="store_true", help="print the report, not the table")


def run(args: argparse.Namespace) -> int:
    """Scores the tasks, prints a table, writes the report; returns the exit code."""
    from keras_mtl.training.evaluation import CopySource, Evaluator, report, write_report

    copied = None
    compared: dict[str, Comparison] = {}
    if args.unseen and not args.corpora:
        raise ConfigError("--unseen chooses among the pairs of --corpora; give that too")
    part = Path(args.corpora).stem if args.corpora else args.split
    if args.corpora and not args.output and part in SPLITS:
        raise ConfigError(
            f"--corpora {args.corpora}: the report would take the place of that of --split {part}; "
            "give --output, or another name to the file"
        )
    if args.samples < 1:
        raise ConfigError(f"--samples must be at least 1, got {args.samples}")
    text_metrics = [name for name in args.metrics if name in metrics.TEXT_METRICS]
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
    if args.copy_source and text_metrics:
        copy = Evaluator(
            evaluator.prepared, CopySource(), text_metrics, args.max_pairs, args.split, args.tasks
        )
        copied = copy.evaluate()
        about["copied_source"] = {name: dict(result.scores) for name, result in copied.items()}
    output = args.output or Path(args.model_dir) / f"evaluation-{part}.json"
    path = write_report(output, results, **about)
    if args.json:
        print(json.dumps(report(results, **about), indent=2, ensure_ascii=False))
        return 0
    print_results(results, copied, compared, args.compare_with or "")
    print(f"report: {path}")
    return 0


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A task's translations against those that another compute type made of the same sentences.

    Attributes:
      changed: share of the sentences whose translation is another one.
      differences: score less that of the other type, by metric.
      p_values: of these differences, by metric: how probable one as large is by chance alone.
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


def make_evaluator(
    model_dir: str,
    *,
    split: str = "test",
    corpora: str | None = None,
    unseen: bool = False,
    pairs: Any = None,
    on_long_line: str = "error",
    tasks: list[str] | None = None,
    metric_names: list[str] | None = None,
    max_pairs: int | None = None,
    beam_size: int | None = None,
    checkpoint: str | None = None,
    backend: str = "auto",
    compute_type: str | None = None,
    workers: int | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Loads a trained model and the pairs to score.

    Args:
      model_dir: folder of the run.
      split: what is scored of the model's prepared data.
      corpora: file with a list of corpora to score instead; see ``load_corpora``.
      unseen: without the pairs of ``corpora`` whose source is in training data.
      pairs: what another evaluator has read already (its ``prepared``); None reads.
      on_long_line: see ``TextTranslator``.
      tasks: names of the tasks to score; None takes all.
      metric_names: what is computed; None takes BLEU and chrF.
      max_pairs: most pairs of a task; None takes all.
      beam_size: None takes that of the run.
      checkpoint: checkpoint to read.
      backend: see `keras_mtl.export.translators.load_translator`, as for the next two.
      compute_type: of the engine.
      workers: threads of the engine.

    Returns:
      The `Evaluator`, and what a report says about it.

    Raises:
      CheckpointError: the model cannot be read, or its data was prepared anew since.
    """
    from keras_mtl.decoding.loading import load_model
    from keras_mtl.export.translators import check_compute_type, choose_backend, make_translator
    from keras_mtl.training.evaluation import Evaluator, Likelihood, PairIds

    options: dict[str, Any] = {"num_hypotheses": 1}
    if beam_size is not None:
        options["beam_size"] = beam_size
    chosen = choose_backend(backend)
    check_compute_type(chosen, compute_type)
    loaded = load_model(model_dir, checkpoint)
    vocabulary = loaded.vocabulary
    if pairs is None:
        pairs = (
            _given_pairs(model_dir, loaded, corpora, unseen, tasks)
            if corpora
            else _prepared(model_dir, vocabulary)
        )
    translator = make_translator(
        loaded.model,
        vocabulary,
        loaded.tasks.tasks,
        loaded.options.replace(**options),
        backend=chosen,
        compute_type=compute_type or "float32",
        workers=workers,
        batch_size=loaded.batch_size,
        on_long_line=on_long_line,
    )
    evaluator = Evaluator(
        pairs,
        translator,
        metric_names or metrics.TEXT_METRICS,
        max_pairs,
        split,
        tasks,
        Likelihood(loaded.model, PairIds.of_tasks(vocabulary, translator.tasks)),
    )
    about = {
        "model_dir": model_dir,
        "split": corpora or split,
        "unseen": unseen,
        "beam_size": translator.options.beam_size,
        "backend": chosen,
        "compute_type": compute_type or "float32",
    }
    return evaluator, about


def _prepared(model_dir: str, vocabulary: "Vocabulary") -> "PreparedData":
    """Loads a run's data, which must be what the model was trained with."""
    from keras_mtl import registry
    from keras_mtl.data.prepare import load_prepared
    from keras_mtl.training.setup import data_dir_of

    prepared = load_prepared(data_dir_of(registry.load_params(model_dir), model_dir))
    if prepared.vocabulary.hash != vocabulary.hash:
        raise CheckpointError(
            f"{prepared.data_dir} was prepared with another vocabulary "
            f"({prepared.vocabulary.hash}) than {model_dir} was trained with "
            f"({vocabulary.hash}); set task.data.data_dir in {model_dir}/params.yaml to the data "
            "of the run"
        )
    return prepared


def _given_pairs(
    model_dir: str, loaded: Any, corpora: str, unseen: bool, tasks: list[str] | None
) -> "GivenPairs":
    """Reads the pairs of ``corpora`` for some tasks of a model, or all."""
    from keras_mtl.data.given_pairs import load_corpora, read_given_pairs
    from keras_mtl.decoding.tasks import find_task

    specs = load_corpora(corpora)
    every = loaded.tasks.tasks
    chosen = every if tasks is None else [find_task(every, name) for name in dict.fromkeys(tasks)]
    seen_by = _prepared(model_dir, loaded.vocabulary) if unseen else None
    return read_given_pairs(chosen, specs, loaded.vocabulary, _to_stderr, seen_by)


def print_results(
    results: Mapping[str, "TaskResult"],
    copied: Mapping[str, "TaskResult"] | None = None,
    compared: Mapping[str, Comparison] | None = None,
    compared_type: str = "",
) -> None:
    """Prints a table of scores, their mean over tasks, and the signatures.

    Args:
      results: scores of each task.
      copied: those of the source as if it were the translation, if they are to stand beside.
      compared: of each task with another compute type, if that is to stand beside.
      compared_type: the name of that type.
    """
    first = next(iter(results.values()))

    def scores(of: Mapping[str, "TaskResult"], name: str) -> list[float]:
        return [of[task].scores[name] for task in results]

    columns = [(TITLES[name], "", scores(results, name)) for name in first.scores]
    if copied:
        for name in next(iter(copied.values())).scores:
            columns.append((f"{TITLES[name]} of source", "", scores(copied, name)))
    if compared:
        changes = [compared[task] for task in results]
        columns.append(("changed %", "", [100 * change.changed for change in changes]))
        for name in changes[0].differences:
            title = f"{TITLES[name]} against {compared_type}"
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
        print(f"{TITLES[name]}: {first.signatures[name]}")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
