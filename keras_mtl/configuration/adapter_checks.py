"""Checks of the adapters of a model: `task.model.adapters`."""

import re
from typing import Any

from keras_mtl.configuration.adapters import (
    BOTTLENECK,
    DECIDING,
    KINDS,
    LORA,
    STACKS,
    AdapterConfig,
    adapter_sets,
)
from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.stack_sharing import ALL, BY_STACK
from keras_mtl.configuration.variable_patterns import check_pattern
from keras_mtl.errors import nearest

# Part of the names of variables and tensors. Members are names of languages, tasks or groups.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Fields that only one kind of adapter has.
_ONLY = {"dim": BOTTLENECK, "rank": LORA, "alpha": LORA}


def check(draft: Draft) -> None:
    """Adds to a draft what is wrong with `task.model.adapters`; the tasks must be named."""
    seen: dict[str, int] = {}
    _check_variables(draft)
    for number, settings in enumerate(draft.config.task.model.adapters):
        path = f"task.model.adapters[{number}]"
        if not _NAME.fullmatch(settings.name):
            draft.problem(
                f"{path}.name",
                f"= {settings.name!r}: give a name of letters, digits and _ . -, such as language",
            )
        elif seen.setdefault(settings.name, number) != number:
            draft.problem(
                f"{path}.name",
                f"= {settings.name!r} is also the name of "
                f"task.model.adapters[{seen[settings.name]}]; names must differ",
            )
        draft.choice(f"{path}.kind", KINDS)
        draft.choice(f"{path}.per", DECIDING)
        _check_sizes(draft, path, settings)
        _check_stacks(draft, path, settings)
        if settings.per in DECIDING:
            check_groups(draft, path, settings, "adapter of a set")


def _check_variables(draft: Draft) -> None:
    """Checks that no two adapters have the same name in the names of variables."""
    model, pairs = draft.config.task.model, draft.config.task.pairs
    settings = [each for each in model.adapters if each.per in DECIDING]
    owner: dict[str, str] = {}
    for each in adapter_sets(settings, pairs):
        for member in each.members:
            name = f"{each.name}_{member}"
            if owner.setdefault(name, each.name) != each.name:
                draft.problem(
                    "task.model.adapters",
                    f"has two adapters {name!r}, of {owner[name]!r} and of {each.name!r}; rename "
                    "one of them",
                )


def _check_sizes(draft: Draft, path: str, settings: AdapterConfig) -> None:
    draft.range(f"{path}.dim", 1)
    draft.range(f"{path}.rank", 1)
    draft.range(f"{path}.alpha", 0, low_open=True)
    for field, kind in _ONLY.items():
        value = getattr(settings, field)
        if value is not None and settings.kind in KINDS and settings.kind != kind:
            draft.problem(
                f"{path}.{field}", f"= {value}: only kind: {kind} has this field; remove it"
            )
    if settings.kind == LORA:
        check_pattern(draft, f"{path}.match", settings.match)


def _check_stacks(draft: Draft, path: str, settings: AdapterConfig) -> None:
    if not settings.stacks:
        draft.problem(f"{path}.stacks", "is empty; give encoder, decoder or both")
    for index, stack in enumerate(settings.stacks):
        if stack not in STACKS:
            draft.problem(
                f"{path}.stacks[{index}]", f"= {stack!r} is unknown{nearest(stack, STACKS)}"
            )
    if "decoder" in settings.stacks and draft.config.task.model.sharing == "encoder":
        draft.problem(
            f"{path}.stacks",
            f"= {settings.stacks}: with task.model.sharing = 'encoder', each target language has "
            "its own decoder, which needs no adapter; set stacks: [encoder], or sharing: full",
        )
    model = draft.config.task.model
    for stack in settings.stacks if model.sharing == BY_STACK else ():
        if stack in STACKS and getattr(model.stacks, stack).per != ALL:
            draft.problem(
                f"{path}.stacks",
                f"= {settings.stacks}: task.model.stacks.{stack} gives tasks their own {stack}, "
                f"which needs no adapter; set per: all there, or leave {stack} out",
            )


def check_groups(draft: Draft, path: str, settings: Any, noun: str, of_all: bool = False) -> bool:
    """Checks that groups name known languages or tasks, each once.

    Args:
        draft: gets the problems.
        path: path of the settings.
        settings: a section with `per` and `groups`.
        noun: what a group is, for messages.
        of_all: whether every language or task must belong to a group.

    Returns:
        Whether there is no problem.
    """
    pairs = draft.config.task.pairs
    known = [getattr(pair, "name" if settings.per == "task" else settings.per) for pair in pairs]
    problems: list[tuple[str, str]] = []
    place: dict[str, str] = {}
    for name in dict.fromkeys([] if settings.groups else known):
        if not _NAME.fullmatch(name):
            text = (
                f"is empty, but {name!r} cannot name a group, whose name has only letters, digits "
                f"and _ . -; name the groups, for example {{own: [{name!r}]}}"
            )
            problems.append((f"{path}.groups", text))
    for group, names in settings.groups.items():
        field = f"{path}.groups.{group}"
        if not _NAME.fullmatch(group):
            text = f"= {group!r}: give groups names of letters, digits and _ . -"
            problems.append((f"{path}.groups", text))
        if not _is_names(names):
            text = f"= {names!r}: expected a list of names, such as {group}: [{known[0]}]"
            problems.append((field, text))
            continue
        for name in names:
            if name not in known:
                text = f"has {name!r}, which is no {_NOUN[settings.per]}{nearest(name, known)}"
                problems.append((field, text))
            elif place.setdefault(name, group) != group:
                text = f"has {name!r}, which is also in {place[name]}; a task uses one {noun}"
                problems.append((field, text))
    missing = [name for name in dict.fromkeys(known) if name not in place]
    if of_all and settings.groups and missing and not problems:
        text = f"has no group of {', '.join(missing)}; every task needs a {noun}"
        problems.append((f"{path}.groups", text))
    for field, text in problems:
        draft.problem(field, text)
    return not problems


_NOUN = {"task": "task", "source": "source language of a task", "target": "target language"}


def _is_names(names: Any) -> bool:
    return isinstance(names, list) and bool(names) and all(isinstance(n, str) for n in names)
