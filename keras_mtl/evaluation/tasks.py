"""The tasks of a run and their decoders."""

from keras_mtl.data.prepared import PreparedData
from keras_mtl.decoding.tasks import TranslationTask


def decoders(sharing: str, prepared: PreparedData) -> tuple[str, ...]:
    """Returns the target languages with their own decoder, or one "" if all share one decoder.

    Args:
        sharing: `task.model.sharing`.
        prepared: the prepared data, with the tasks.
    """
    if sharing == "full":
        return ("",)
    return tuple(dict.fromkeys(task.target for task in prepared.tasks))


def decoder_of_task(sharing: str, prepared: PreparedData) -> list[int]:
    """Returns the index of the decoder of each task in `decoders`."""
    names = decoders(sharing, prepared)
    return [0 if names == ("",) else names.index(task.target) for task in prepared.tasks]


def translation_tasks(sharing: str, prepared: PreparedData) -> list[TranslationTask]:
    """Returns the tasks of a run with their decoders."""
    indices = decoder_of_task(sharing, prepared)
    return [
        TranslationTask(task.name, task.source, task.target, decoder)
        for task, decoder in zip(prepared.tasks, indices, strict=True)
    ]
