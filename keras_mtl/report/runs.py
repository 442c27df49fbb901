"""Reads the files of a run, as far as they are readable."""

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_mtl.configuration import plugins
from keras_mtl.configuration.baselines import read_file
from keras_mtl.configuration.reading import load_yaml
from keras_mtl.configuration.schema import PairConfig
from keras_mtl.data.prepared import read_manifest
from keras_mtl.errors import ConfigError, DataError
from keras_mtl.evaluation.records import trained_steps
from keras_mtl.evaluation.task_metrics import metric_of as metric_of_pair
from keras_mtl.evaluation.translations import Translation
from keras_mtl.events import (
    Curve,
    DamagedLine,
    Event,
    is_finite,
    of_kind,
    read_log,
    task_curves,
    validation_metric,
)
from keras_mtl.metrics import find as find_metric
from keras_mtl.metrics import schedule_higher_is_better, schedule_score
from keras_mtl.report.early_stops import stopped_early
from keras_mtl.report.evaluations import RecordedEvaluation, read_evaluation
from keras_mtl.run_files import METRICS_FILE, PARAMS_FILE, SAMPLES_FILE, data_directory


@dataclasses.dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        directory: the `model_dir` of the run.
        params: configuration as plain values; empty if there is none.
        seed: `runtime.seed`; None if it is not known.
        schedule: name of the schedule; empty if it is not known.
        tasks: names of the tasks, in the order of the configuration.
        sizes: number of training pairs by task, if known.
        baselines: {task: score of a model trained on only this task}, in the unit of `metric`;
            without tasks that have another metric.
        metric: metric that drove the schedule; one of them if tasks have different ones.
        last_step: last step of the log; 0 if there is no log.
        finished: whether this is the last step of training, also because of `trainer.stopping`; or
            there is no log, as of averaged weights, so that nothing will be logged.
        trained_steps: step of the newest checkpoint, or else the last step of the log.
        losses: curves of the training loss per token in nats, by task.
        probabilities: curves of the probabilities, by task.
        scales: curves of the factors of an implicit schedule, by task; empty if all are 1.
        weights: curves of the weights of balancing, by task; empty without balancing.
        scores: curves of validation scores, by metric and task.
        ratios: curves of score / baseline, by task.
        batches: number of batches (examples if mixed) at the end, by task.
        tokens: number of target tokens by task; empty if it was not logged.
        evaluation: test scores, and how they were computed; empty if there is no evaluation.
        samples: the events of `samples.jsonl`; empty if there is no such file.
        notes: a sentence for everything that is missing or damaged.
    """

    directory: Path
    params: Mapping[str, Any]
    seed: int | None
    schedule: str
    tasks: tuple[str, ...]
    sizes: Mapping[str, int]
    baselines: Mapping[str, float]
    metric: str
    last_step: int
    finished: bool
    trained_steps: int
    losses: Mapping[str, Curve]
    probabilities: Mapping[str, Curve]
    scales: Mapping[str, Curve]
    weights: Mapping[str, Curve]
    scores: Mapping[str, Mapping[str, Curve]]
    ratios: Mapping[str, Curve]
    batches: Mapping[str, int]
    tokens: Mapping[str, int]
    evaluation: RecordedEvaluation
    samples: Sequence[Event]
    notes: Sequence[str]

    @property
    def test(self) -> Mapping[str, Mapping[str, float]]:
        """Test scores by metric and task; empty without an evaluation."""
        return self.evaluation.scores

    @property
    def translations(self) -> Mapping[str, Sequence[Translation]]:
        """Translations of the test sets by task; empty if they were not kept."""
        return self.evaluation.translations

    def param(self, dotted: str, default: Any = None) -> Any:
        """Returns a field of the configuration."""
        found: Any = self.params
        for key in dotted.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return default if found is None else found

    @property
    def pairs(self) -> Sequence[Mapping[str, Any]]:
        """`task.pairs` of the configuration."""
        return _pairs(self.params)


def read_run(model_dir: str | os.PathLike[str], split: str = "test") -> Run:
    """Reads the directory of a run; adds a note for everything that cannot be read.

    Args:
        model_dir: the directory.
        split: evaluation to read, `test` or `dev`.

    Returns:
        The run.

    Raises:
        DataError: the directory does not exist, or it has neither a log nor an evaluation.
    """
    directory = Path(model_dir)
    if not directory.is_dir():
        raise DataError(f"{directory} is not a directory; give the model_dir of a run")
    notes: list[str] = []
    params = _read_params(directory, notes)
    if not (directory / METRICS_FILE).is_file():
        notes.append(f"no {METRICS_FILE}: there are no curves")
    events = _read_log(directory / METRICS_FILE, notes)
    evaluation = read_evaluation(directory, split, _read_sizes(directory, params, split), notes)
    test = evaluation.scores
    if not events and not test:
        raise DataError(
            f"{directory} has neither events in {METRICS_FILE} nor evaluation-{split}.json; give "
            "the model_dir of a run that has been trained"
        )
    trains, evaluations = of_kind(events, "train"), of_kind(events, "evaluation")
    schedule = _mapping(_mapping(params.get("trainer")).get("schedule"))
    seed = _mapping(params.get("runtime")).get("seed")
    name = schedule.get("name")
    metric = validation_metric(events) or next(iter(test), "")
    _load_plugins(directory, [metric, *_scores(evaluations), *test], notes)
    last_step = max((event["step"] for event in events), default=0)
    scores = _scores(evaluations)
    metric_of = _task_metrics(params, metric)
    baselines = _read_baselines(params, evaluations, metric_of, metric)
    steps = _mapping(params.get("trainer")).get("train_steps")
    finished = not events or not isinstance(steps, int) or last_step >= steps
    if not finished:
        finished = stopped_early(directory, scores, baselines, last_step)
        if not finished:
            notes.append(f"not finished: step {last_step:,} of {steps:,}")
    return Run(
        directory=directory,
        params=params,
        seed=seed if isinstance(seed, int) else None,
        schedule=str(name) if name else "",
        tasks=tuple(_task_names(params, events, test)),
        sizes=_read_sizes(directory, params, "train"),
        baselines={
            task: value
            for task, value in baselines.items()
            if metric_of.get(task, metric) == metric
        },
        metric=metric,
        last_step=last_step,
        finished=finished,
        trained_steps=trained_steps(directory) or last_step,
        losses=task_curves(trains, "loss"),
        probabilities=task_curves(events, "probabilities"),
        scales=task_curves(trains, "scales"),
        weights=task_curves(trains, "weights"),
        scores=scores,
        ratios=task_curves(evaluations, "ratios"),
        batches=_mapping(trains[-1].get("batches")) if trains else {},
        tokens=_totals(trains, "tokens"),
        evaluation=evaluation,
        samples=_read_log(directory / SAMPLES_FILE, notes),
        notes=notes,
    )


def _load_plugins(directory: Path, metrics: Sequence[str], notes: list[str]) -> None:
    """Imports the plug-ins of a run; only those that define one of its metrics are required.

    Raises:
        ConfigError: a metric is not registered.
    """
    failure: ConfigError | None = None
    try:
        plugins.load_saved(directory)
    except ConfigError as error:
        failure = error
    for name in metrics:
        if name and find_metric(name) is None:
            raise failure or ConfigError(
                f"{directory}: the metric {name!r} is not registered; import its "
                "plug-in with --import"
            )
    if failure is not None:
        notes.append(f"{failure}\n  (not needed for this report)")


def _read_params(directory: Path, notes: list[str]) -> dict[str, Any]:
    path = directory / PARAMS_FILE
    try:
        values = load_yaml(path)
    except ConfigError as error:
        notes.append(f"{PARAMS_FILE} cannot be read: {error}; seed and schedule are not known")
        return {}
    return dict(_mapping(values))


def _read_log(path: Path, notes: list[str]) -> list[Event]:
    """Returns the events of a file, none if it is missing; adds a note for damaged lines."""
    if not path.is_file():
        return []
    try:
        events, damaged = read_log(path)
    except OSError as error:
        notes.append(f"{path.name} cannot be read: {error.strerror}")
        return []
    skipped = [line for line in damaged if line.skipped]
    if skipped:
        count = "1 line is" if len(skipped) == 1 else f"{len(skipped)} lines are"
        notes.append(f"{path.name}: {count} damaged and skipped (line {_numbers(skipped)})")
    wrong = [line for line in damaged if not line.skipped]
    if wrong:
        notes.append(
            f"{path.name}: values that cannot be used are skipped (line {_numbers(wrong)}): "
            f"{wrong[0].reason}"
        )
    return events


def _numbers(lines: Sequence[DamagedLine]) -> str:
    numbers = [str(line.number) for line in lines]
    return ", ".join(numbers[:8]) + (" ..." if len(numbers) > 8 else "")


def _read_sizes(directory: Path, params: Mapping[str, Any], split: str) -> dict[str, int]:
    """Returns the number of pairs of a split by task, if the prepared data still exists."""
    data = _mapping(_mapping(params.get("task")).get("data"))
    try:
        manifest = read_manifest(data_directory(str(data.get("data_dir") or ""), directory))
    except DataError:
        return {}
    tasks = manifest["tasks"] if manifest else []
    return {str(task["name"]): int(task.get(f"{split}_size", 0)) for task in tasks}


def _task_metrics(params: Mapping[str, Any], metric: str) -> dict[str, str]:
    """Returns the metric of each task of the configuration; that of the log if there is none."""
    default = _mapping(_mapping(params.get("trainer")).get("evaluation")).get("metric")
    if not isinstance(default, str) or not default:
        default = metric
    found = {}
    for pair in _pairs(params):
        given = {field: pair[field] for field in ("metric", "kind") if pair.get(field)}
        found[_pair_name(pair)] = str(metric_of_pair(PairConfig(**given), default))
    return found


def _read_baselines(
    params: Mapping[str, Any],
    evaluations: Sequence[Mapping[str, Any]],
    metric_of: Mapping[str, str],
    metric: str,
) -> dict[str, float]:
    """Returns the baselines of the configuration, or else those implied by the logged ratios.

    Args:
        params: the configuration.
        evaluations: the logged validations.
        metric_of: metric of each task of the configuration.
        metric: metric of other tasks.

    Returns:
        {task: baseline}, each > 0, in the unit of the task's own metric.
    """
    baselines: dict[str, float] = {}
    for event in evaluations:
        scores = _mapping(event.get("scores"))
        for task, ratio in _mapping(event.get("ratios")).items():
            own = metric_of.get(task, metric)
            value = _mapping(scores.get(own)).get(task)
            score = schedule_score(own, value) if value else 0.0
            if ratio and score:
                higher = schedule_higher_is_better(own)
                baselines[task] = score / ratio if higher else score * ratio
    schedule = _mapping(_mapping(params.get("trainer")).get("schedule"))
    with contextlib.suppress(ConfigError):  # The file may no longer exist: training has read it.
        baselines |= read_file(str(schedule.get("baselines_file")))
    for pair in _pairs(params):
        if is_finite(value := pair.get("baseline")):
            baselines[_pair_name(pair)] = float(value)
    return {task: value for task, value in baselines.items() if value > 0}


def _pairs(params: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = _mapping(params.get("task")).get("pairs")
    return [pair for pair in found if isinstance(pair, Mapping)] if isinstance(found, list) else []


def _pair_name(pair: Mapping[str, Any]) -> str:
    return str(pair.get("name") or f"{pair.get('source')}-{pair.get('target')}")


def _task_names(
    params: Mapping[str, Any], events: Sequence[Mapping[str, Any]], test: Mapping[str, Any]
) -> list[str]:
    names: dict[str, None] = {}
    for pair in _pairs(params):
        names[_pair_name(pair)] = None
    for event in events:
        for field in ("probabilities", "batches"):
            names.update(dict.fromkeys(_mapping(event.get(field))))
    for scores in test.values():
        names.update(dict.fromkeys(scores))
    return list(names)


def _scores(evaluations: Sequence[Event]) -> dict[str, dict[str, Curve]]:
    metrics: dict[str, None] = {}
    for event in evaluations:
        metrics.update(dict.fromkeys(_mapping(event.get("scores"))))
    return {metric: task_curves(evaluations, "scores", metric) for metric in metrics}


def _totals(trains: Sequence[Mapping[str, Any]], field: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for event in trains:
        for task, value in _mapping(event.get(field)).items():
            totals[task] = totals.get(task, 0) + int(value)
    return totals


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
