"""Which tasks share which stacks of a model: `task.model.stacks`. Imports no TensorFlow."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from keras_mtl.configuration.adapters import AdapterChoice, index_of, members_of
from keras_mtl.configuration.corpus_sections import Options

BY_STACK = "by_stack"
SHARING = ("full", "encoder", BY_STACK)
"""Values of `task.model.sharing`."""

ALL = "all"
DECIDING = (ALL, "source", "target", "task")
"""What decides which copy of a stack a task uses."""

_TIED = ("embeddings",)
_UNTIED = ("source_embedding", "target_embedding", "projection")


@dataclasses.dataclass(slots=True)
class StackConfig:
    """Which tasks share a stack.

    Attributes:
        per: `all`, one copy for all tasks; or what decides which copy a task uses: its `source`,
            its `target` or the `task`.
        groups: copies that several languages (or tasks) share, for example `{romance: [fr, es]}`.
            Every language belongs to a group. Empty gives each language its own copy.
    """

    per: str = ALL
    groups: Options = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class StacksConfig:
    """Which tasks share which stacks, if `task.model.sharing` is `by_stack`.

    Attributes:
        encoder: the encoder.
        decoder: the decoder.
        embeddings: the table of tied embeddings.
        source_embedding: the table of the source, if embeddings are not tied.
        target_embedding: the table of the target, if embeddings are not tied.
        projection: the projection to logits, if it is not tied to a table.
    """

    encoder: StackConfig = dataclasses.field(default_factory=StackConfig)
    decoder: StackConfig = dataclasses.field(default_factory=StackConfig)
    embeddings: StackConfig = dataclasses.field(default_factory=StackConfig)
    source_embedding: StackConfig = dataclasses.field(default_factory=StackConfig)
    target_embedding: StackConfig = dataclasses.field(default_factory=StackConfig)
    projection: StackConfig = dataclasses.field(default_factory=StackConfig)


def stack_names(model: Any) -> tuple[str, ...]:
    """Returns the stacks of a model that may have copies.

    Args:
        model: a `keras_mtl.configuration.schema.TransformerConfig`.
    """
    tables: tuple[str, ...] = _TIED if model.tie_embeddings else _UNTIED
    if model.tie_projection and not model.tie_embeddings:
        tables = tables[:-1]
    return ("encoder", "decoder", *tables)


def copies_of_stacks(model: Any, tasks: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    """Returns the names of the copies of each stack that has several, in the order of their index.

    Args:
        model: the section `task.model`.
        tasks: objects with `name`, `source` and `target`.
    """
    if model.sharing == "encoder":
        copies = {"decoder": tuple(dict.fromkeys(task.target for task in tasks))}
    elif model.sharing == BY_STACK:
        copies = {
            name: members_of(settings, tasks)
            for name in stack_names(model)
            if (settings := getattr(model.stacks, name)).per != ALL
        }
    else:
        copies = {}
    return {name: members for name, members in copies.items() if len(members) > 1}


def stack_choices(model: Any, tasks: Sequence[Any]) -> list[tuple[AdapterChoice, ...]]:
    """Returns for each task which copy it uses of each stack that has several.

    Args:
        model: the section `task.model`.
        tasks: objects with `name`, `source` and `target`.

    Returns:
        The choices in the order of `copies_of_stacks`, without that of the decoder.
    """
    copies = copies_of_stacks(model, tasks)
    settings = {name: getattr(model.stacks, name) for name in copies if name != "decoder"}
    return [
        tuple(
            AdapterChoice(each.per, index_of(each, copies[name], task), len(copies[name]))
            for name, each in settings.items()
        )
        for task in tasks
    ]


def decoder_indices(model: Any, tasks: Sequence[Any]) -> list[int]:
    """Returns for each task the index of its decoder.

    Args:
        model: the section `task.model`.
        tasks: objects with `name`, `source` and `target`.
    """
    names = copies_of_stacks(model, tasks).get("decoder", ())
    if not names:
        return [0] * len(tasks)
    if model.sharing == "encoder":
        return [names.index(task.target) for task in tasks]
    return [index_of(model.stacks.decoder, names, task) for task in tasks]


def described(copies: dict[str, tuple[str, ...]]) -> str:
    """Returns text that lists the copies of stacks, such as `encoder: en, de; decoder: fr, es`."""
    listed = (f"{name}: {', '.join(members)}" for name, members in copies.items())
    return "; ".join(listed) or "none"
