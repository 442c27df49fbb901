"""The tasks of a run and their decoders."""

from keras_mtl.data.prepared import PreparedData
from keras_mtl.decoding.tasks import TranslationTask


def decoders(sharing: str, prepared: PreparedData) -> tuple[str, ...]:
    """Returns the target languages that have their own decoder; one "" if all share one.

    Args:
        sharing: `task.model.sharing`.
        prepared: the tasks.
    """
    if sharing == "full":
        return ("",)
    return tuple(dict.fromkeys(task.target for task in prepared.tasks))


def decoder_of_task(sharing: str, prepared: PreparedData) -> list[int]:
    """Returns each task's index into `decoders`."""
    names = decoders(sharing, prepared)
    return [0 if names == ("",) else names.index(task.target) for task in prepared.tasks]


def translation_tasks(sharing: str, prepared: PreparedData) -> list[TranslationTask]:
    """Returns the tasks of a run with their decoders."""
    indices = decoder_of_task(sharing, prepared)
    return [
        TranslationTask(task.name, task.source, task.target, decoder)
        for task, decoder in zip(prepared.tasks, indices, strict=True)
    ]
