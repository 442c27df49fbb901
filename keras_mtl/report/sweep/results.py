"""The results of a sweep as JSON, for scripts that make other tables or check claims."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl.report.groups import Mean
from keras_mtl.report.sweep.differences import Difference
from keras_mtl.report.sweep.files import Sweep
from keras_mtl.report.sweep.scores import ModelScores, Setting

KIND = "keras_mtl sweep results"


def to_json(sweep: Sweep, scored: Sequence[ModelScores]) -> dict[str, Any]:
    """Returns plain values of everything on the page.

    Scores are `{"mean", "standard_deviation", "seeds"}`; differences are `{"difference", "p_value",
    "spread", "significant", "clear"}`. A value that is not known is null. The parts `high`, `low`
    and `all` are the means over the tasks of that list.
    """
    return {
        "kind": KIND,
        "name": sweep.name,
        "high_resource": list(sweep.high_resource),
        "low_resource": list(sweep.low_resource),
        "models": [_model(found) for found in scored],
        "notes": list(sweep.notes),
    }


def _model(found: ModelScores) -> dict[str, Any]:
    return {
        "size": found.model.size,
        "sharing": found.model.sharing,
        "finished_runs": found.model.finished,
        "planned_runs": found.model.planned,
        "metric": found.metric,
        "dev_metric": found.dev_metric,
        "best_temperature": found.best_temperature or None,
        "budget_seconds": found.budget,
        "baselines": dict(found.baselines),
        "settings": [_setting(setting) for setting in found.settings],
    }


def _setting(setting: Setting) -> dict[str, Any]:
    temperature = setting.temperature
    if temperature is not None and math.isinf(temperature):
        shown: float | str | None = "infinity"  # JSON has no infinite numbers.
    else:
        shown = temperature
    return {
        "setting": setting.name,
        "family": setting.family,
        "temperature": shown,
        "runs": [str(run.directory) for run in setting.group.runs],
        "seeds": setting.group.seeds,
        "steps": setting.steps,
        "target_tokens": setting.tokens,
        "seconds": setting.seconds,
        "test": {name: _means(scores) for name, scores in setting.scores.items()},
        "test_by_task": _means(setting.tasks),
        "dev_at_budget": _means(setting.at_seconds),
        "dev_change_in_last_tenth": setting.last_tenth,
        "above_temperature_curve": setting.above_curve and _difference(setting.above_curve),
        "against_best_temperature": _differences(setting.against_temperature),
        "against_baselines": _differences(setting.against_baselines),
        "beats_best_temperature": setting.beats_temperature,
    }


def _means(values: Mapping[str, Mean]) -> dict[str, Any]:
    return {
        name: {"mean": value.mean, "standard_deviation": value.spread, "seeds": value.seeds}
        for name, value in values.items()
    }


def _differences(values: Mapping[str, Difference]) -> dict[str, Any]:
    return {name: _difference(found) for name, found in values.items()}


def _difference(found: Difference) -> dict[str, Any]:
    return {
        "difference": found.value,
        "p_value": found.p_value,
        "spread": found.spread,
        "significant": found.significant,
        "clear": found.clear,
    }
