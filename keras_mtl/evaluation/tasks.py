"""The tasks of a run, their decoders and their adapters."""

from collections.abc import Sequence
from typing import Any

from keras_mtl.configuration.adapters import adapter_choices
from keras_mtl.configuration.other_tasks import TRANSLATION
from keras_mtl.configuration.schema import TransformerConfig
from keras_mtl.decoding.tasks import TranslationTask


def decoders(sharing: str, targets: Sequence[str]) -> tuple[str, ...]:
    """Returns the target languages with their own decoder, or one "" if all share one decoder.

    Args:
        sharing: `task.model.sharing`.
        targets: the target language of each task.
    """
    if sharing == "full":
        return ("",)
    return tuple(dict.fromkeys(targets))


def translation_tasks(model: TransformerConfig, tasks: Sequence[Any]) -> list[TranslationTask]:
    """Returns the tasks of a run with their decoders, kinds and adapters.

    Args:
        model: `task.model`.
        tasks: objects with `name`, `source`, `target` and, if they do not translate, `kind`.
    """
    targets = [task.target for task in tasks]
    names = decoders(model.sharing, targets)
    indices = [0 if names == ("",) else names.index(target) for target in targets]
    choices = adapter_choices(model.adapters, tasks)
    return [
        TranslationTask(
            task.name,
            task.source,
            task.target,
            decoder,
            getattr(task, "kind", TRANSLATION),
            adapters,
        )
        for task, decoder, adapters in zip(tasks, indices, choices, strict=True)
    ]
