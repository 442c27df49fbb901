"""Tasks as decoding needs them, and the file of a model directory that lists them."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from keras_mtl.configuration.adapters import AdapterChoice, route_of, split_route
from keras_mtl.configuration.other_tasks import DENOISING, LANGUAGE_MODEL, TRANSLATION
from keras_mtl.errors import CheckpointError, ExportError, InputError, nearest_task
from keras_mtl.run_files import TASKS_FILE


@dataclasses.dataclass(frozen=True)
class TranslationTask:
    """A direction of translation, or another task of a model.

    Attributes:
        name: unique name, for example `en-fr`.
        source: source language.
        target: target language; its tag precedes the source tokens.
        decoder: index of the model's decoder; 0 if all tasks share one.
        kind: `translation`, `denoising` or `language_model`.
        adapters: the adapter that the task uses of each set of the model.
        stacks: the copy that the task uses of each stack of the model that has several, without
            the decoder.
    """

    name: str
    source: str
    target: str
    decoder: int = 0
    kind: str = TRANSLATION
    adapters: tuple[AdapterChoice, ...] = ()
    stacks: tuple[AdapterChoice, ...] = ()

    @property
    def route(self) -> int:
        """The number that models and engines take for a task: its decoder, stacks and adapters."""
        return route_of(self.decoder, (*self.stacks, *self.adapters))

    @classmethod
    def of_route(
        cls, name: str, source: str, target: str, route: int, sets: Sequence[tuple[str, int]] = ()
    ) -> Self:
        """Creates a task from its route.

        Args:
            name: name of the task.
            source: its source language.
            target: its target language.
            route: its route.
            sets: for each set of adapters what decides which one a task uses, and their number.
        """
        decoder, indices = split_route(route, [count for _, count in sets])
        choices = zip(sets, indices, strict=True)
        adapters = tuple(AdapterChoice(per, index, count) for (per, count), index in choices)
        return cls(name, source, target, decoder, adapters=adapters)


@dataclasses.dataclass(frozen=True)
class TaskList:
    """The tasks of a trained model.

    Attributes:
        tasks: the tasks in the order of training.
        vocabulary_hash: `Vocabulary.hash` of the vocabulary used for training.
    """

    tasks: tuple[TranslationTask, ...]
    vocabulary_hash: str

    @property
    def decoders(self) -> tuple[str, ...]:
        """Target language of each decoder, by index."""
        names = {task.decoder: task.target for task in self.tasks}
        return tuple(names.get(index, f"unused_{index}") for index in range(max(names) + 1))

    def exported(self) -> tuple[TranslationTask, ...]:
        """Returns the tasks that exported models have: those that translate.

        Raises:
            ExportError: no task translates.
        """
        found = translated(self.tasks)
        if not found:
            raise ExportError(
                f"no task of the model translates ({', '.join(task.name for task in self.tasks)} "
                "do not), and exported models only translate. Use the model directory"
            )
        return found

    @classmethod
    def read(cls, model_dir: str | os.PathLike[str]) -> Self:
        """Reads `tasks.json` of a model directory.

        Raises:
            CheckpointError: the file is missing or invalid.
        """
        path = Path(model_dir) / TASKS_FILE
        if not path.exists():
            from keras_mtl.decoding.model_kinds import not_usable  # It imports this module.

            raise CheckpointError(
                not_usable(model_dir, "a model directory written by `keras-mtl train`")
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            tasks = tuple(_task(entry) for entry in content["tasks"])
            if not tasks:
                raise ValueError("it contains no task")
            return cls(tasks, str(content["vocabulary_hash"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}). Give a directory written by `keras-mtl train`"
            ) from error


def translated(tasks: Sequence[TranslationTask]) -> tuple[TranslationTask, ...]:
    """Returns the tasks that translate."""
    return tuple(task for task in tasks if task.kind == TRANSLATION)


def scored_task(tasks: Sequence[TranslationTask], name: str) -> TranslationTask:
    """Returns the task with a given name, of any kind, or what `find_task` returns.

    Raises:
        InputError: see `find_task`.
    """
    return next((task for task in tasks if task.name == name), None) or find_task(tasks, name)


def find_task(tasks: Sequence[TranslationTask], name: str) -> TranslationTask:
    """Returns the task with a given name, or a zero-shot task.

    A zero-shot task is a direction `source-target` that was not trained. Its source is a language
    of any task, and its target is the target of one, whose decoder it uses. A language model reads
    no source, so it adds only a target. The task uses the adapters of its languages, if other tasks
    with them have some. There is no zero-shot task if each task has its own copy of a stack, or if
    no task reads the source and the copies depend on it.

    Args:
        tasks: the tasks of a model.
        name: name of a task, or a direction.

    Raises:
        InputError: no task has this name, and it is not such a direction; the message lists the
            tasks. Or the task does not translate.
    """
    for task in tasks:
        if task.name == name:
            if task.kind != TRANSLATION:
                raise InputError(_not_translated(task, tasks))
            return task
    sources = {language for task in tasks for language in _read_languages(task)}
    for task in tasks:
        source = name.removesuffix(f"-{task.target}")
        if source != name and source in sources and source != task.target:
            adapters = _zero_shot_choices(tasks, source, task, "adapters")
            stacks = _zero_shot_choices(tasks, source, task, "stacks")
            if any(choice.index < 0 for choice in stacks):
                continue
            return TranslationTask(
                name, source, task.target, task.decoder, adapters=adapters, stacks=stacks
            )
    names = [task.name for task in translated(tasks)]
    raise InputError(f"unknown task {name!r}{nearest_task(name, names)}")


def _read_languages(task: TranslationTask) -> tuple[str, ...]:
    """Returns the languages that the encoder has read or can be assumed to know."""
    if task.kind == TRANSLATION:
        return task.source, task.target
    return (task.target,) if task.kind == DENOISING else ()


def _not_translated(task: TranslationTask, tasks: Sequence[TranslationTask]) -> str:
    does = "restores noisy text"
    if task.kind == LANGUAGE_MODEL:
        does = "predicts text without a source"
    known = ", ".join(each.name for each in translated(tasks))
    remedy = f"Use one of {known}" if known else "The model has no task that translates"
    return f"task {task.name!r} ({task.kind}) {does}, so it does not translate. {remedy}"


def _zero_shot_choices(
    tasks: Sequence[TranslationTask], source: str, same_target: TranslationTask, kind: str
) -> tuple[AdapterChoice, ...]:
    """Returns the adapters or the copies of stacks of a zero-shot task; index -1 for none.

    Args:
        tasks: the tasks of a model.
        source: the source language.
        same_target: a task with the target language.
        kind: `adapters` or `stacks`.
    """
    same_source = next((task for task in tasks if task.source == source), None)
    found = []
    for number, choice in enumerate(getattr(same_target, kind)):
        if choice.per == "source" and same_source is not None:
            choice = getattr(same_source, kind)[number]
        elif choice.per != "target":
            choice = dataclasses.replace(choice, index=-1)
        found.append(choice)
    return tuple(found)


def is_zero_shot(tasks: Sequence[TranslationTask], name: str) -> bool:
    """Returns whether a name that `find_task` accepts is not the name of a task."""
    return all(task.name != name for task in tasks)


def _task(entry: dict[str, Any]) -> TranslationTask:
    adapters, stacks = (
        tuple(
            AdapterChoice(str(per), int(index), int(count))
            for per, index, count in entry.get(kind, [])
        )
        for kind in ("adapters", "stacks")
    )
    return TranslationTask(
        str(entry["name"]),
        str(entry["source"]),
        str(entry["target"]),
        int(entry["decoder"]),
        str(entry.get("kind", TRANSLATION)),
        adapters,
        stacks,
    )
