"""Gives the variables of a model their first weights from trained models."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.configuration.initial_weights import InitConfig
from keras_mtl.errors import ConfigError, nearest
from keras_mtl.models.variables import layer_name, matching, variables_by_name

LOADED, REMAPPED, LEFT_OUT = "loaded", "remapped", "left out"


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a variable of the model takes from a source.

    Attributes:
        name: the variable.
        status: `LOADED`, `REMAPPED` or `LEFT_OUT`.
        origin: name of the source's variable; empty if there is none.
        reason: for `REMAPPED` what happened to the rows; for `LEFT_OUT` why.
        source: number of the source, from 0.
    """

    name: str
    status: str
    origin: str = ""
    reason: str = ""
    source: int = 0


def choose(
    names: Sequence[str], known: Sequence[str], settings: InitConfig, field: str
) -> dict[str, tuple[str, str]]:
    """Chooses the source's variable for each variable of a model.

    Args:
        names: names of the model's variables.
        known: names of the source's variables.
        settings: rules and exclusions.
        field: path of the settings, for messages.

    Returns:
        By name, the name in the source, and if that is empty the reason.

    Raises:
        ConfigError: an expression matches no variable, a rule names only variables that the source
            does not have, or no variable is chosen.
    """
    excluded = {
        name
        for number, pattern in enumerate(settings.exclude)
        for name in matching(names, pattern, f"{field}.exclude[{number}]")
    }
    chosen: dict[str, tuple[str, str]] = {}
    wanted = _by_rules(names, known, settings, field) if settings.rules else {n: n for n in names}
    for name in names:
        origin = wanted.get(name)
        if name in excluded:
            chosen[name] = "", "excluded"
        elif origin is None:
            chosen[name] = "", "no rule matches"
        elif origin not in known:
            chosen[name] = "", f"the source has no {origin}"
        else:
            chosen[name] = origin, ""
    if not any(origin for origin, _ in chosen.values()):
        raise ConfigError(
            f"{field}: no variable of this model takes weights from {settings.from_}. Change rules "
            f"or exclude. The source has, for example, {', '.join(known[:3])}"
        )
    return chosen


def _by_rules(
    names: Sequence[str], known: Sequence[str], settings: InitConfig, field: str
) -> dict[str, str]:
    """Returns the name in the source of each variable that a rule matches."""
    wanted: dict[str, str] = {}
    for number, rule in enumerate(settings.rules):
        path = f"{field}.rules[{number}]"
        found = {}
        for name in matching(names, rule.match, f"{path}.match"):
            match = re.fullmatch(rule.match, name)
            found[name] = match.expand(rule.to) if match else name
        if not set(found.values()).intersection(known):
            origin = next(iter(found.values()))
            raise ConfigError(
                f"{path}.to = {rule.to!r} names {origin}, but {settings.from_} has no such "
                f"variable{nearest(origin, known)}"
            )
        wanted = found | wanted  # The first rule that matches counts.
    return wanted


def assign(
    model: Any,
    source: Mapping[str, np.ndarray],
    settings: InitConfig,
    maps: Any,
    number: int = 0,
    write: bool = True,
) -> list[Entry]:
    """Assigns the weights of a source to the variables of a model.

    Args:
        model: a built `keras_mtl.models.Transformer`.
        source: float32 weights by name.
        settings: rules and exclusions.
        maps: the `keras_mtl.data.vocabulary_map.VocabularyMaps` from the source's vocabularies to
            those of the model.
        number: number of the source in `task.model.init`, from 0.
        write: False only returns what would be assigned.

    Returns:
        An entry for each variable of the model.

    Raises:
        ConfigError: see `choose`; or a source's weights are not finite.
    """
    field = f"task.model.init[{number}]"
    variables = variables_by_name(model)
    axes = {path.partition("/")[2]: axis for path, axis in model.vocabulary_axes().items()}
    entries = []
    for name, (origin, reason) in choose(list(variables), list(source), settings, field).items():
        entry = Entry(name, LEFT_OUT, origin, reason, number)
        if origin:
            rows = maps.between(origin, name) if name in axes else None
            value, entry = _value(variables[name], source[origin], axes.get(name), rows, entry)
            if value is not None and not np.isfinite(value).all():
                raise ConfigError(
                    f"{field}.from: {settings.from_}: the weights of {origin} are not all finite: "
                    "its training has diverged. Give an earlier checkpoint"
                )
            if value is not None and write:
                variables[name].assign(value)
        entries.append(entry)
    return entries


def _value(
    variable: Any, found: np.ndarray, axis: int | None, vocabulary_map: Any, entry: Entry
) -> tuple[np.ndarray | None, Entry]:
    """Returns the new value of a variable, None if it has none, and the entry."""
    shape = tuple(variable.shape)
    if axis is None or found.ndim != len(shape):
        remaps = False
    else:
        remaps = found.shape[axis] == vocabulary_map.old_size and not vocabulary_map.is_identity
    compared = [s for a, s in enumerate(shape) if not (remaps and a == axis)]
    theirs = [s for a, s in enumerate(found.shape) if not (remaps and a == axis)]
    if compared != theirs:
        reason = f"the shape {list(found.shape)} in the source is not {list(shape)}"
        return None, dataclasses.replace(entry, reason=reason)
    if not remaps:
        return found, dataclasses.replace(entry, status=LOADED)
    value = vocabulary_map.apply(found, np.asarray(variable), axis)
    return value, dataclasses.replace(entry, status=REMAPPED, reason=vocabulary_map.describe())


def final_entries(found: Sequence[Sequence[Entry]]) -> list[Entry]:
    """Returns for each variable the entry of the last source that gave it weights.

    Args:
        found: for each source, an entry for each variable, in the same order.
    """
    result = []
    for entries in zip(*found, strict=True):
        given = [entry for entry in entries if entry.status != LEFT_OUT]
        result.append(given[-1] if given else entries[-1])
    return result


def table(entries: Sequence[Entry], sizes: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Returns the rows of a table: a row for each layer and each way its variables were treated.

    Args:
        entries: from `final_entries`.
        sizes: number of parameters by variable.

    Returns:
        Rows of layer, number of variables, number of parameters, status with the number of the
        source from 0, and origin or reason.
    """
    groups: dict[tuple[str, str, str], list[str]] = {}
    for entry in entries:
        if entry.status == LOADED:
            layer = layer_name(entry.origin)
            note = "" if layer == layer_name(entry.name) else f"from {layer}"
        else:
            note = _without_rest(entry)
        status = entry.status
        if status != LEFT_OUT:
            status += f" from [{entry.source}]"
        groups.setdefault((layer_name(entry.name), status, note), []).append(entry.name)
    return [
        (layer, str(len(names)), f"{sum(sizes[name] for name in names):,}", status, note)
        for (layer, status, note), names in groups.items()
    ]


def _without_rest(entry: Entry) -> str:
    """Returns the reason, with the layer instead of the variable that is missing."""
    missing = "the source has no "
    if entry.reason.startswith(missing):
        return missing + layer_name(entry.reason.removeprefix(missing))
    return entry.reason


def unused(found: Sequence[Entry], source: Mapping[str, Any]) -> list[str]:
    """Returns the layers of a source of which no variable was used, in their order."""
    used = {layer_name(entry.origin) for entry in found if entry.status != LEFT_OUT}
    return [layer for layer in dict.fromkeys(map(layer_name, source)) if layer not in used]
