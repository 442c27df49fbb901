"""The tasks of a run and their decoders."""

from collections.abc import Sequence

from keras_mtl.configuration.schema import TranslationConfig
from keras_mtl.data.prepared import PreparedData
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


def decoder_of_task(sharing: str, targets: Sequence[str]) -> list[int]:
    """Returns the index of the decoder of each task in `decoders`."""
    names = decoders(sharing, targets)
    return [0 if names == ("",) else names.index(target) for target in targets]


def translation_tasks(task: TranslationConfig, prepared: PreparedData) -> list[TranslationTask]:
    """Returns the tasks of a run with their decoders and kinds."""
    sharing, kinds = task.model.sharing, {pair.name: pair.kind for pair in task.pairs}
    indices = decoder_of_task(sharing, [task.target for task in prepared.tasks])
    return [
        TranslationTask(task.name, task.source, task.target, decoder, kinds[task.name])
        for task, decoder in zip(prepared.tasks, indices, strict=True)
    ]
