"""Labels of configurations in a report: the schedule, and fields that distinguish them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl import schedules
from keras_mtl.configuration.schema import ExperimentConfig, as_dict
from keras_mtl.errors import ConfigError
from keras_mtl.report.runs import Run

# Fields that may differ between runs of one configuration: the seed and paths.
_NOT_COMPARED = ("runtime.seed", "task.data.data_dir", "trainer.schedule.baselines_file")


# Largest number of fields in a label; if configurations differ in more, labels show directories.
_MOST_FIELDS = 2
_PARAMETERS = "trainer.schedule.parameters"


def unique_labels(runs: Sequence[Run]) -> list[str]:
    """Returns a label for each configuration, given one run of each.

    A label is the name of the schedule, followed by the parameter of the same name, as in
    `temperature 5`. Configurations with the same name also show the fields in which they differ,
    or their directory if they differ in many.
    """
    flat = [_with_parameters(run) for run in runs]
    names = [_name(run, values) for run, values in zip(runs, flat, strict=True)]
    labels: list[str] = []
    for run, name, own in zip(runs, names, flat, strict=True):
        alike = [values for values, other in zip(flat, names, strict=True) if other == name]
        fields = {field for values in alike for field in values}
        differing = sorted(f for f in fields if len({values.get(f) for values in alike}) > 1)
        label = name
        if len(alike) > 1 and 0 < len(differing) <= _MOST_FIELDS:
            label += "".join(f" {_short(field)}={own.get(field, '-')}" for field in differing)
        elif len(alike) > 1:
            label += f" ({run.directory.name})"
        if label in labels:
            label = f"{name} ({run.directory})"
        if label in labels:
            label += f" #{len(labels) + 1}"
        labels.append(label)
    return labels


def differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Returns the fields in which configurations differ: (field, a value for each)."""
    flat = [_flatten(compared(run.params)) for run in runs]
    fields = sorted({field for values in flat for field in values})
    result = []
    for field in fields:
        values = [values.get(field, "-") for values in flat]
        if len(set(values)) > 1:
            result.append((field, values))
    return result


def _name(run: Run, values: Mapping[str, str]) -> str:
    if not run.schedule:
        return run.directory.name
    own = values.get(f"{_PARAMETERS}.{run.schedule}")
    return run.schedule if own is None else f"{run.schedule} {_number(own)}"


def _with_parameters(run: Run) -> dict[str, str]:
    """Returns the fields of a run, including default parameters of its schedule."""
    values = _flatten(compared(run.params))
    if values.get(_PARAMETERS) == "{}":
        del values[_PARAMETERS]
    try:
        parameters = schedules.parameters_of(run.schedule)
    except ConfigError:  # A schedule of another version, or of a plug-in that is not installed.
        return values
    for name, parameter in parameters.items():
        default = parameter.default
        if isinstance(default, int | float | str):
            values.setdefault(f"{_PARAMETERS}.{name}", json.dumps(default).strip('"'))
    return {
        field: _number(value) if field.startswith(_PARAMETERS) else value
        for field, value in values.items()
    }


def _number(text: str) -> str:
    """Returns `5` for `5.0`, because a configuration may contain either."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def with_defaults(runs: Sequence[Run]) -> list[Run]:
    """Fills in fields that only some of the runs have."""
    if len({_fields(run.params) for run in runs if run.params}) < 2:
        return list(runs)
    defaults = as_dict(ExperimentConfig())
    return [
        dataclasses.replace(run, params=_filled(run.params, defaults)) if run.params else run
        for run in runs
    ]


def _fields(values: Mapping[str, Any], prefix: str = "") -> frozenset[str]:
    """Returns the paths of the fields of a configuration, without parameters of components."""
    found: set[str] = set()
    for key, child in values.items():
        if isinstance(child, Mapping) and key != "parameters":
            found |= _fields(child, f"{prefix}{key}.")
        else:
            found.add(prefix + key)
    return frozenset(found)


def _filled(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    result = {**defaults, **values}
    for key, child in result.items():
        default = defaults.get(key)
        if isinstance(child, Mapping) and isinstance(default, Mapping):
            result[key] = _filled(child, default)
    return result


def _short(field: str) -> str:
    """Returns the last part of a field's path that is clear without the parts before it."""
    parts = [part for part in field.split(".") if part not in ("name", "parameters")]
    return parts[-1]


def compared(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration without the fields that are not compared."""

    def without(values: Any, prefix: str) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {
            key: without(child, f"{prefix}{key}.")
            for key, child in values.items()
            if f"{prefix}{key}" not in _NOT_COMPARED
        }

    return dict(without(params, ""))


def _flatten(values: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(values, Mapping) and values:
        return {
            path: text
            for key, child in values.items()
            for path, text in _flatten(child, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    text = json.dumps(values, ensure_ascii=False, default=str).strip('"')
    return {prefix: text if len(text) <= 60 else text[:57] + "..."} if prefix else {}
