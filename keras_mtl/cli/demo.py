"""`keras-mtl demo`: prepares, trains, scores, exports and translates with the built-in corpus."""

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_mtl.cli import arguments
from keras_mtl.cli.printing import print_table
from keras_mtl.errors import ConfigError
from keras_mtl.run_files import evaluation_file

if TYPE_CHECKING:
    from keras_mtl.configuration.schema import ExperimentConfig

EXPERIMENT = "translation/transformer_tiny"
_CONFIG = Path("configs/demo.yaml")
_TRANSLATIONS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "--model_dir", default="runs/demo", metavar="DIR", help="directory of the run"
    )
    parser.add_argument(
        "--config_file",
        metavar="YAML",
        help=f"configuration (default: {_CONFIG} of the source checkout)",
    )
    parser.add_argument(
        "--params_override",
        metavar="FIELD=VALUE,...",
        action="append",
        default=[],
        help="overrides of single fields; may be repeated",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the configuration file, the overrides and the directory.

    Raises:
        ConfigError: a file is missing or cannot be read, or the directory cannot be written.
    """
    arguments.check_input_file("--config_file", args.config_file or find_config())
    arguments.check_output_directory("--model_dir", args.model_dir)


def run(args: argparse.Namespace) -> int:
    """Runs all steps and prints the results; returns the exit code."""
    begin = time.perf_counter()
    path = args.config_file or find_config()
    import keras_mtl.data.corpora  # noqa: F401  Registers the readers.
    from keras_mtl.configuration.files import read_experiment
    from keras_mtl.training.run.planning import plan_training

    draft = read_experiment(EXPERIMENT, [path], args.params_override, imports=args.imports)
    plan = plan_training(draft)
    config = plan.config
    model_dir = Path(args.model_dir)
    print(f"== {path} in {model_dir}")
    steps = config.trainer.train_steps
    if (model_dir / f"ckpt-{steps}.index").exists():
        print(f"{model_dir} has already been trained to step {steps:,}; delete it to train again")
    from keras_mtl.training.run.loop import run_experiment

    result = run_experiment(plan, model_dir)
    if not result.chief:  # The first of several workers does the rest.
        return 0

    print("== test")
    from keras_mtl.evaluation.reports import write_report
    from keras_mtl.evaluation.trained_model import open_evaluator

    evaluator, record = open_evaluator(model_dir)
    scores = evaluator.evaluate()
    write_report(model_dir / evaluation_file("test"), scores, evaluator.scored_pairs, **record)

    print("== export")
    from keras_mtl.export.saved_model import export_model_dir

    exported = export_model_dir(model_dir, model_dir / "export", overwrite=True)
    from keras_mtl.figures.run import plot_run

    plot = plot_run(model_dir, model_dir / "demo.png")

    print("== translate with the exported model")
    _translate(str(exported), evaluator)

    print("== results on test sentences that are in no task's training data")
    _print_summary(config, evaluator, scores, result.batches)
    print(f"plot:           {plot}")
    print(f"exported model: {exported}")
    task = next(iter(scores))
    print(f"try:            {_program()} translate --model {exported} --task {task}")
    print(f"total time:     {time.perf_counter() - begin:.0f} s")
    return 0


def _program() -> str:
    """Returns the command for keras-mtl: its full path if its environment is not active."""
    return (
        "keras-mtl" if shutil.which("keras-mtl") else str(Path(sys.executable).parent / "keras-mtl")
    )


def find_config() -> Path:
    """Returns the demo's configuration file from the source checkout.

    Raises:
        ConfigError: the package was installed without its sources.
    """
    checkout = Path(__file__).resolve().parents[2]
    for directory in (Path.cwd(), checkout):
        if (directory / _CONFIG).is_file():
            return directory / _CONFIG
    raise ConfigError(
        f"{_CONFIG} is neither in the current directory nor in {checkout}, because the package was "
        "installed without its sources. Give --config_file with a copy of this file from the "
        "source distribution"
    )


def _print_summary(
    config: "ExperimentConfig", evaluator: Any, scores: dict[str, Any], batches: dict[str, int]
) -> None:
    sizes = {task.name: task.train_size for task in evaluator.prepared.tasks}
    baselines = {pair.name: pair.baseline for pair in config.task.pairs}
    total = max(1, sum(batches.values()))
    rows = [
        (
            name,
            f"{sizes[name]:,}",
            "-" if baselines.get(name) is None else f"{baselines[name]:.1f}",
            f"{result.bleu:.1f}",
            f"{result.chrf:.1f}",
            f"{batches.get(name, 0) / total:.1%}",
        )
        for name, result in scores.items()
    ]
    from keras_mtl.evaluation.task_metrics import TaskMetrics

    title = TaskMetrics.of(config).title
    print_table(("task", "pairs", f"baseline ({title})", "BLEU", "chrF", "share of batches"), rows)


def _translate(exported: str, evaluator: Any) -> None:
    """Prints the translation of one test sentence for several tasks."""
    from keras_mtl.decoding.saved_model_translator import SavedModelTranslator
    from keras_mtl.evaluation.evaluator import spread

    translator = SavedModelTranslator(exported)
    names = [evaluator.tasks[i % len(evaluator.tasks)] for i in range(_TRANSLATIONS)]
    for place, name in enumerate(names):
        reader = evaluator.prepared.reader(name, "test")
        # Pairs are sorted by length. Use different pairs of medium length.
        middle = spread(len(reader), 2 * _TRANSLATIONS)
        source, reference = reader.text(
            int(middle[min(_TRANSLATIONS // 2 + place, len(middle) - 1)])
        )
        (translation,) = translator.translate([source], name)
        print(f"{name}:  {source}\n    ▸ {translation}\n    = {reference}")
