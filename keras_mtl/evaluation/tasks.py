"""The tasks of a run, their decoders and their adapters."""

from collections.abc import Sequence
from typing import Any

from keras_mtl.configuration.adapters import adapter_choices
from keras_mtl.configuration.other_tasks import TRANSLATION
from keras_mtl.configuration.schema import TransformerConfig
from keras_mtl.configuration.stack_sharing import decoder_indices, stack_choices
from keras_mtl.decoding.tasks import TranslationTask


def decoders(sharing: str, targets: Sequence[str]) -> tuple[str, ...]:
    """Returns the target languages with their own decoder, or one "" if sharing is not `encoder`.

    Args:
        sharing: `task.model.sharing`.
        targets: the target language of each task.
    """
    return tuple(dict.fromkeys(targets)) if sharing == "encoder" else ("",)


def translation_tasks(model: TransformerConfig, tasks: Sequence[Any]) -> list[TranslationTask]:
    """Returns the tasks of a run with their decoders, kinds, adapters and copies of stacks.

    Args:
        model: `task.model`.
        tasks: objects with `name`, `source`, `target` and, if they do not translate, `kind`.
    """
    choices = adapter_choices(model.adapters, tasks)
    return [
        TranslationTask(
            task.name,
            task.source,
            task.target,
            decoder,
            getattr(task, "kind", TRANSLATION),
            adapters,
            stacks,
        )
        for task, decoder, adapters, stacks in zip(
            tasks, decoder_indices(model, tasks), choices, stack_choices(model, tasks), strict=True
        )
    ]
