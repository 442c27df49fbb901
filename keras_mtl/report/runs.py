"""What a run left behind, read as far as it can be read."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from keras_mtl.data.prepared import read_manifest
from keras_mtl.errors import DataError
from keras_mtl.simulation.comparison import default_label
from keras_mtl.training.event_log import METRICS_FILE, effective_step
from keras_mtl.training.translations import SUFFIX, Translation, read_translations
from keras_mtl.yaml_loader import Loader

PARAMS_FILE = "params.yaml"

Curve = dict[int, float]
"""Value by step, in rising order; of several at a step the last."""


BEAM = "beam size"


@dataclasses.dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
      folder: its ``model_dir``.
      params: its configuration as plain values; empty when there is none.
      seed: ``runtime.seed``; None when it is not known.
      label: its schedule with its parameters, else the folder's name.
      tasks: names, in the configuration's order.
      sizes: training pairs by task, as far as they are known.
      metric: what drove the schedule.
      last_step: of its log; 0 when it has none.
      probabilities: by task.
      scales: factors of an implicit schedule by task; empty when all were 1.
      weights: what balancing gave the tasks; empty when there was none.
      scores: validation scores by metric and task.
      ratios: score / baseline by task.
      batches: by task, what it had contributed at the end (examples when mixed).
      tokens: target tokens by task; empty when they were not logged.
      test: test scores by metric and task; empty when it was not evaluated.
      tested: sentences by task behind the test scores, and "beam size" where it is known.
      signatures: by metric, how the test scores were made.
      translations: of the test sets by task; empty when they were not kept.
      notes: what is missing or damaged, a sentence each.
    """

    folder: Path
    params: Mapping[str, Any]
    seed: int | None
    label: str
    tasks: tuple[str, ...]
    sizes: Mapping[str, int]
    metric: str
    last_step: int
    probabilities: Mapping[str, Curve]
    scales: Mapping[str, Curve]
    weights: Mapping[str, Curve]
    scores: Mapping[str, Mapping[str, Curve]]
    ratios: Mapping[str, Curve]
    batches: Mapping[str, int]
    tokens: Mapping[str, int]
    test: Mapping[str, Mapping[str, float]]
    tested: Mapping[str, int]
    signatures: Mapping[str, str]
    translations: Mapping[str, Sequence[Translation]]
    notes: Sequence[str]

    def param(self, dotted: str, default: Any = None) -> Any:
        """A field of the configuration."""
        found: Any = self.params
        for key in dotted.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return default if found is None else found


def read_run(model_dir: str | os.PathLike[str], split: str = "test") -> Run:
    """Reads a run's folder; what cannot be read becomes a note.

    Args:
      model_dir: the folder.
      split: which evaluation to read, ``test`` or ``dev``.

    Returns:
      The run.

    Raises:
      DataError: there is no such folder, or it holds neither a log nor an evaluation.
    """
    folder = Path(model_dir)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: give the model_dir of a run")
    notes: list[str] = []
    params = _read_params(folder, notes)
    events = _read_log(folder / METRICS_FILE, notes)
    test, tested, signatures = _read_evaluation(folder / f"evaluation-{split}.json", split, notes)
    if not events and not test:
        raise DataError(
            f"{folder} holds neither events in {METRICS_FILE} nor evaluation-{split}.json: give "
            "the model_dir of a run that has trained"
        )
    trains = [event for event in events if event.get("event") == "train"]
    evaluations = [event for event in events if event.get("event") == "evaluation"]
    schedule = _mapping(_mapping(params.get("trainer")).get("schedule"))
    seed = _mapping(params.get("runtime")).get("seed")
    name = schedule.get("name")
    run = Run(
        folder=folder,
        params=params,
        seed=seed if isinstance(seed, int) else None,
        label=default_label(str(name), _mapping(schedule.get("parameters")))
        if name
        else folder.name,
        tasks=tuple(_task_names(params, events, test)),
        sizes=_read_sizes(folder, params),
        metric=_metric(evaluations, test),
        last_step=max((event["step"] for event in events), default=0),
        probabilities=_curves(
            [{**event, "step": effective_step(event)} for event in events], "probabilities"
        ),
        scales=_curves(trains, "scales"),
        weights=_curves(trains, "weights"),
        scores=_scores(evaluations),
        ratios=_curves(evaluations, "ratios"),
        batches=_mapping(trains[-1].get("batches")) if trains else {},
        tokens=_totals(trains, "tokens"),
        test=test,
        tested=tested,
        signatures=signatures,
        translations=_read_translations(folder / f"evaluation-{split}", notes) if test else {},
        notes=notes,
    )
    steps = run.param("trainer.train_steps", 0)
    if events and run.last_step < steps:
        notes.append(f"not finished: step {run.last_step:,} of {steps:,}")
    return run


def _read_params(folder: Path, notes: list[str]) -> dict[str, Any]:
    path = folder / PARAMS_FILE
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        notes.append(
            f"{PARAMS_FILE} cannot be read ({type(error).__name__}): seed and schedule "
            "are not known"
        )
        return {}
    return dict(_mapping(values))


def _read_log(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    """Events of a log; lines that are none are counted and named, a file that is missing is too."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        notes.append(f"no {path.name}: there are no curves")
        return []
    events: list[dict[str, Any]] = []
    damaged: list[int] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            if not isinstance(event, dict) or not isinstance(event["step"], int):
                raise TypeError("not an object with a step")
        except (ValueError, KeyError, TypeError):
            damaged.append(number)
            continue
        events.append(event)
    if damaged:
        shown = ", ".join(map(str, damaged[:8])) + (" ..." if len(damaged) > 8 else "")
        count = "1 line is" if len(damaged) == 1 else f"{len(damaged)} lines are"
        notes.append(f"{path.name}: {count} damaged and left out (line {shown})")
    return events


def _read_evaluation(
    path: Path, split: str, notes: list[str]
) -> tuple[dict[str, dict[str, float]], dict[str, int], dict[str, str]]:
    """Scores by metric and task, what they were made of, and signatures."""
    if not path.exists():
        notes.append(
            f"no {split} outputs: run `keras-mtl evaluate --model_dir {path.parent}"
            + (f" --split {split}`" if split != "test" else "`")
        )
        return {}, {}, {}
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        found: dict[str, dict[str, float]] = {}
        for task, result in report["tasks"].items():
            for metric, value in result["scores"].items():
                found.setdefault(str(metric), {})[str(task)] = float(value)
        tested = {task: int(result["pairs"]) for task, result in report["tasks"].items()}
        if isinstance(beam := report.get("beam_size"), int):
            tested[BEAM] = beam
        return found, tested, {str(k): str(v) for k, v in report["signatures"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__}): evaluate again")
        return {}, {}, {}


def _read_translations(folder: Path, notes: list[str]) -> dict[str, list[Translation]]:
    found = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            found[path.name.removesuffix(SUFFIX)] = read_translations(path)
        except DataError as error:
            notes.append(str(error))
    if not found:
        notes.append(
            f"no translations in {folder.name}/: differences cannot be tested; evaluate again"
        )
    return found


def _read_sizes(folder: Path, params: Mapping[str, Any]) -> dict[str, int]:
    """Training pairs by task, of the prepared data where they still are."""
    data = _mapping(_mapping(params.get("task")).get("data"))
    try:
        manifest = read_manifest(str(data.get("data_dir") or folder / "data"))
    except DataError:
        return {}
    tasks = manifest["tasks"] if manifest else []
    return {str(task["name"]): int(task["train_size"]) for task in tasks}


def _task_names(
    params: Mapping[str, Any], events: Sequence[Mapping[str, Any]], test: Mapping[str, Any]
) -> list[str]:
    names: dict[str, None] = {}
    for pair in _mapping(params.get("task")).get("pairs") or []:
        pair = _mapping(pair)
        names[str(pair.get("name") or f"{pair.get('source')}-{pair.get('target')}")] = None
    for event in events:
        for field in ("probabilities", "batches"):
            names.update(dict.fromkeys(_mapping(event.get(field))))
    for scores in test.values():
        names.update(dict.fromkeys(scores))
    return list(names)


def _metric(evaluations: Sequence[Mapping[str, Any]], test: Mapping[str, Any]) -> str:
    for event in reversed(evaluations):
        if event.get("metric"):
            return str(event["metric"])
        if event.get("scores"):
            return str(next(iter(event["scores"])))
    return next(iter(test), "")


def _curves(events: Sequence[Mapping[str, Any]], field: str) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for event in sorted(events, key=lambda event: int(event["step"])):
        for task, value in _mapping(event.get(field)).items():
            if isinstance(value, int | float) and math.isfinite(value):
                curves.setdefault(str(task), {})[event["step"]] = float(value)
    return curves


def _scores(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Curve]]:
    metrics: dict[str, None] = {}
    for event in evaluations:
        metrics.update(dict.fromkeys(_mapping(event.get("scores"))))
    return {
        metric: _curves(
            [
                {"step": e["step"], "values": _mapping(e.get("scores")).get(metric)}
                for e in evaluations
            ],
            "values",
        )
        for metric in metrics
    }


def _totals(trains: Sequence[Mapping[str, Any]], field: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for event in trains:
        for task, value in _mapping(event.get(field)).items():
            if isinstance(value, int | float):
                totals[str(task)] = totals.get(str(task), 0) + int(value)
    return totals


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
