"""Tasks as decoding needs them, and the file of a model directory that lists them."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from keras_mtl.errors import CheckpointError, InputError, nearest_task
from keras_mtl.run_files import TASKS_FILE


@dataclasses.dataclass(frozen=True)
class TranslationTask:
    """A direction of translation.

    Attributes:
        name: unique name, for example `en-fr`.
        source: source language.
        target: target language; its tag precedes the source tokens.
        decoder: index of the model's decoder; 0 if all tasks share one.
    """

    name: str
    source: str
    target: str
    decoder: int = 0


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


def find_task(tasks: Sequence[TranslationTask], name: str) -> TranslationTask:
    """Returns the task with a given name, or a zero-shot task.

    A zero-shot task is a direction `source-target` that was not trained. Its source is a language
    of any task, and its target is the target of one, whose decoder it uses.

    Args:
        tasks: the tasks of a model.
        name: name of a task, or a direction.

    Raises:
        InputError: no task has this name, and it is not such a direction; the message lists the
            tasks.
    """
    for task in tasks:
        if task.name == name:
            return task
    sources = {language for task in tasks for language in (task.source, task.target)}
    for task in tasks:
        source = name.removesuffix(f"-{task.target}")
        if source != name and source in sources and source != task.target:
            return TranslationTask(name, source, task.target, task.decoder)
    raise InputError(f"unknown task {name!r}{nearest_task(name, [task.name for task in tasks])}")


def is_zero_shot(tasks: Sequence[TranslationTask], name: str) -> bool:
    """Returns whether a name that `find_task` accepts is not the name of a task."""
    return all(task.name != name for task in tasks)


def _task(entry: dict[str, Any]) -> TranslationTask:
    return TranslationTask(
        str(entry["name"]), str(entry["source"]), str(entry["target"]), int(entry["decoder"])
    )
