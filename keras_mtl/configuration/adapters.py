"""Adapters: small weights that only some tasks use. Their section, and which task uses which.

Imports no TensorFlow. `keras_mtl.layers.layer_adapters` computes with them.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl.configuration.corpus_sections import Options
from keras_mtl.run_files import PARAMS_FILE

BOTTLENECK, LORA, EMBEDDING = "bottleneck", "lora", "embedding"
KINDS = (BOTTLENECK, LORA, EMBEDDING)
DECIDING = ("task", "source", "target")
STACKS = ("encoder", "decoder")
_SIZES = {BOTTLENECK: 64, LORA: 8, EMBEDDING: 1}
_ALPHA = 16.0


@dataclasses.dataclass(slots=True)
class AdapterConfig:
    """A set of adapters, of which each task uses at most one.

    Attributes:
        name: unique name, part of the names of the variables.
        kind: `bottleneck`, two dense layers with a residual after each layer of a stack; `lora`, a
            matrix of low rank that is added to kernels; or `embedding`, a vector that is added to
            the inputs of a stack.
        per: what decides which adapter a task uses: its `source`, its `target` or the `task`.
        groups: adapters that several languages (or tasks) share, for example
            `{iberian: [ca, gl]}`. Others then have no adapter. Empty gives each its own.
        stacks: the stacks that have the adapters: `encoder`, `decoder` or both.
        dim: width of a bottleneck; None takes 64.
        rank: rank of a LoRA matrix; None takes 8.
        alpha: the LoRA matrix is multiplied by alpha / rank; None takes 16.
        match: regular expression for the whole names of the dense layers that LoRA changes, in a
            layer of the stack, such as `attention/qkv` or `feed_forward/output`.
    """

    name: str = ""
    kind: str = BOTTLENECK
    per: str = "target"
    groups: Options = dataclasses.field(default_factory=dict)
    stacks: list[str] = dataclasses.field(default_factory=lambda: list(STACKS))
    dim: int | None = None
    rank: int | None = None
    alpha: float | None = None
    match: str = ".*attention/(qkv|query|key_value)"


@dataclasses.dataclass(frozen=True)
class AdapterSet:
    """The adapters of a section, as a model has them.

    Attributes:
        name: name of the set.
        kind: `bottleneck`, `lora` or `embedding`.
        members: names of the adapters, by index.
        stacks: the stacks that have the adapters.
        size: width of a bottleneck, or rank of LoRA; 1 for embeddings.
        alpha: factor of LoRA, before the division by the rank.
        match: which dense layers LoRA changes.
    """

    name: str
    kind: str
    members: tuple[str, ...]
    stacks: tuple[str, ...]
    size: int
    alpha: float = _ALPHA
    match: str = ""

    @classmethod
    def of_mapping(cls, values: "Mapping[str, Any] | AdapterSet") -> "AdapterSet":
        """Creates the object from what `dataclasses.asdict` returned, also after JSON."""
        if isinstance(values, AdapterSet):
            return values
        lists = {name: tuple(values[name]) for name in ("members", "stacks")}
        return cls(**{**values, **lists})


@dataclasses.dataclass(frozen=True)
class AdapterChoice:
    """The adapter that a task uses of one set, or its copy of a stack.

    Attributes:
        per: what decides it: `source`, `target` or `task`.
        index: index of the adapter or copy; -1 for none.
        count: number of adapters of the set, or of copies.
    """

    per: str
    index: int
    count: int


def saved_adapters(model_dir: str | os.PathLike[str]) -> list[Any]:
    """Returns `task.model.adapters` of a run directory as plain values; imports no TensorFlow.

    Empty if `params.yaml` is missing or damaged: the code that reads it as a configuration reports
    that.
    """
    # An environment that has only the engine lacks the package yaml.
    from keras_mtl.configuration import reading

    values: Any = reading.read_values(os.path.join(model_dir, PARAMS_FILE))
    for key in ("task", "model", "adapters"):
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, list) else []


def adapter_sets(settings: Sequence[AdapterConfig], tasks: Sequence[Any]) -> tuple[AdapterSet, ...]:
    """Returns the adapters that some tasks need.

    Args:
        settings: `task.model.adapters`.
        tasks: objects with `name`, `source` and `target`.
    """
    return tuple(
        AdapterSet(
            each.name,
            each.kind,
            members_of(each, tasks),
            tuple(stack for stack in STACKS if stack in each.stacks),
            each.dim or each.rank or _SIZES.get(each.kind, 1),
            _ALPHA if each.alpha is None else each.alpha,
            each.match if each.kind == LORA else "",
        )
        for each in settings
    )


def adapter_choices(
    settings: Sequence[AdapterConfig], tasks: Sequence[Any]
) -> list[tuple[AdapterChoice, ...]]:
    """Returns for each task which adapter of each set it uses.

    Args:
        settings: `task.model.adapters`.
        tasks: objects with `name`, `source` and `target`.
    """
    members = [members_of(each, tasks) for each in settings]
    return [
        tuple(
            AdapterChoice(each.per, index_of(each, known, task), len(known))
            for each, known in zip(settings, members, strict=True)
        )
        for task in tasks
    ]


def route_of(decoder: int, choices: Sequence[AdapterChoice]) -> int:
    """Returns the number that stands for the decoder, other stacks and adapters of a task.

    It has a digit for each choice, in base count + 1; digit 0 means no adapter. Without choices it
    is the index of the decoder.

    Args:
        decoder: index of the decoder.
        choices: a copy of each stack with several, and then an adapter of each set.
    """
    route = decoder
    for choice in choices:
        route = route * (choice.count + 1) + choice.index + 1
    return route


def split_route(route: Any, counts: Sequence[int]) -> tuple[Any, list[Any]]:
    """Returns the index of the decoder, and the index of the adapter of each set, -1 for none.

    Args:
        route: from `route_of`: an integer, or an array or tensor of integers.
        counts: number of adapters of each set.
    """
    indices = []
    for count in reversed(counts):
        indices.append(route % (count + 1) - 1)
        route = route // (count + 1)
    return route, indices[::-1]


def _deciding(per: str, task: Any) -> str:
    """Returns the name of a task or of its language that decides which adapter it uses."""
    return str(getattr(task, "name" if per == "task" else per))


def groups_of(settings: Any, task: Any) -> dict[str, list[str]]:
    """Returns the groups that a task belongs to, without the names of other tasks or languages.

    Args:
        settings: a section with `per` and `groups`.
        task: object with `name`, `source` and `target`.
    """
    return {
        group: [name]
        for group, names in settings.groups.items()
        if (name := _deciding(settings.per, task)) in names
    }


def members_of(settings: Any, tasks: Sequence[Any]) -> tuple[str, ...]:
    """Returns the names of the adapters of a set, or of the copies of a stack, by index.

    Args:
        settings: a section with `per` and `groups`.
        tasks: objects with `name`, `source` and `target`.
    """
    names = settings.groups or [_deciding(settings.per, task) for task in tasks]
    return tuple(dict.fromkeys(names))


def index_of(settings: Any, members: Sequence[str], task: Any) -> int:
    """Returns which of `members_of` a task uses; -1 for none.

    Args:
        settings: a section with `per` and `groups`.
        members: from `members_of`.
        task: object with `name`, `source` and `target`.
    """
    name = _deciding(settings.per, task)
    for group, names in settings.groups.items():
        if name in names:
            return members.index(group)
    return -1 if settings.groups else members.index(name)
