"""The list of features in features.yaml, and the page of the documentation that shows it.

    python -m tests.features.listing      # writes docs/reference/features.md

Imports no TensorFlow.
"""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("features.yaml")
PAGE = ROOT / "docs/reference/features.md"
# Column: its heading, and what its cell tries.
TRAINING = {
    "train": ("train", "`keras-mtl train` reaches its last step, with a validation in between"),
    "resume": (
        "resume",
        "a run that is stopped halfway has the same batches, log, weights and optimizer as a run "
        "that is not stopped, bit for bit",
    ),
    "fit": (
        "`fit`",
        "`model.fit` with `TaskScheduling` trains the model, and resumes with the same weights, "
        "bit for bit",
    ),
    "mirrored": (
        "mirrored",
        "two devices of one machine get the weights of one device, up to rounding",
    ),
    "workers": ("workers", "two workers get the weights and logs of `mirrored`, bit for bit"),
    "packed": (
        "packed",
        "packed batches of several tasks train, and a run that is stopped is the same, bit for bit",
    ),
}
EXPORTS = {
    "engine_float32": ("float32", "the engine translates as TensorFlow does"),
    "engine_int8": (
        "int8",
        "the engine with int8 weights gives each token of a translation nearly the probability "
        "that float32 gives it",
    ),
    "saved_model": ("portable", "the portable SavedModel translates as TensorFlow does"),
    "saved_model_native": ("native", "the SavedModel with the engine inside, as the engine"),
    "ctranslate2": ("CTranslate2", "CTranslate2 translates as TensorFlow does"),
}
COLUMNS = {**TRAINING, **EXPORTS}


@dataclasses.dataclass(frozen=True)
class Feature:
    """A feature; features.yaml describes the fields."""

    title: str
    field: str
    page: str
    override: dict[str, Any]
    kind: str = "model"
    effect: str = "other"
    tolerance: float = 1e-4
    signs: bool = False
    graph: bool = False
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    none: Mapping[str, str] = dataclasses.field(default_factory=dict)
    changes: Mapping[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    together: str = ""
    rounding: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("model", "training") or self.effect not in ("other", "equal", "any"):
            raise ValueError(f"{self.title}: kind {self.kind}, effect {self.effect}")
        for column in (*self.refused, *self.none, *self.changes, *self.notes):
            if column not in COLUMNS:
                raise ValueError(f"{self.title}: no column {column}")

    @property
    def columns(self) -> list[str]:
        """The columns that are tried."""
        found = COLUMNS if self.kind == "model" else TRAINING
        return [column for column in found if column not in self.none]

    def overrides(self, column: str) -> dict[str, Any]:
        """Returns the fields of the run of a column."""
        return merged(self.override, self.changes.get(column, {}))


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of nested mappings with some values replaced, as for `--config_file`."""
    result = copy.deepcopy(dict(values))
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result


def read() -> dict[str, list[Feature]]:
    """Returns the features by the title of their group."""
    groups = yaml.safe_load(LIST.read_text(encoding="utf-8"))["groups"]
    return {group["title"]: [Feature(**each) for each in group["features"]] for group in groups}


def features() -> Iterator[Feature]:
    """Yields all features."""
    for group in read().values():
        yield from group


def trials() -> dict[str, Feature]:
    """Returns what is tried, by name: single features, and those that are tried together."""
    groups: dict[str, list[Feature]] = {}
    for feature in features():
        groups.setdefault(feature.together or feature.title, []).append(feature)
    return {name: _joined(group) for name, group in groups.items()}


def _joined(group: list[Feature]) -> Feature:
    """Returns a feature that is several ones at the same time."""
    first, *others = group
    for other in others:
        if (other.kind, other.refused) != (first.kind, first.refused):
            raise ValueError(f"{other.title} cannot be tried together with {first.title}")
        equal = first.effect == other.effect == "equal"
        first = dataclasses.replace(
            first,
            title=f"{first.title}; {other.title}",
            override=merged(first.override, other.override),
            effect="equal" if equal else "any",
            tolerance=max(first.tolerance, other.tolerance),
            signs=first.signs or other.signs,
            none={column: first.none[column] for column in first.none if column in other.none},
            changes=merged(first.changes, other.changes),
        )
    return first


class _Notes:
    """Numbered notes; equal texts have one number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def mark(self, text: str) -> str:
        return f"<sup>{self.numbers.setdefault(text, len(self.numbers) + 1)}</sup>"


def page() -> str:
    """Returns the text of the page."""
    notes = _Notes()
    parts = [_HEAD]
    headings = ["feature", *(heading for heading, _ in COLUMNS.values())]
    for title, group in read().items():
        rows = [headings, ["---", *[":-:"] * len(COLUMNS)]]
        for feature in group:
            cells = [_cell(feature, column, notes) for column in COLUMNS]
            letter = f"<sup>{feature.together}</sup>" if feature.together else ""
            link = f"[{feature.title}]({feature.page}){letter}"
            rows.append([f"{link}<br>`{feature.field}`", *cells])
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts.append(f"## {title}\n\n{table}")
    listed = "\n".join(f"{number}. {text}" for text, number in notes.numbers.items())
    parts.append(f"## Notes\n\n{listed}")
    return "\n\n".join(parts) + "\n"


def _cell(feature: Feature, column: str, notes: _Notes) -> str:
    if column in feature.refused:
        return "✗" + notes.mark(f"Refused: “… {feature.refused[column]} …”")
    if column in feature.none:
        return "–" + notes.mark(_sentence(feature.none[column]))
    sign = "=" if column in EXPORTS and feature.kind == "training" else "✓"
    return sign + (notes.mark(_sentence(feature.notes[column])) if column in feature.notes else "")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


_TRIED = "\n".join(f"| {heading} | {tried} |" for heading, tried in COLUMNS.values())
_HEAD = f"""# Where each feature works

This page is for users who want to combine features. It lists where each feature of models and of
training works.

The nightly tests try every cell with ✓ or ✗ on a tiny model. The page is generated from the list
that they read, so it says what they found:

| column | ✓ means |
|---|---|
{_TRIED}

Resuming, `fit` and `packed` are tried on one device. ✗ is an error before training or exporting
begins. = means that the weights have the names and shapes of the default Transformer's, so the
exports are those of its row. – does not apply. Features with the same letter are tried together, in
one run that has all of them.

Features that concern only one column have their own tests: the options of the search are compared
between TensorFlow and C++ ([Beam search](beam_search.md)), all schedules and all balancing methods
share one contract, and [Schedules](schedules.md) and [Balancing](balancing.md) list them."""


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
