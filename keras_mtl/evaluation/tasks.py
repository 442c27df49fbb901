"""The tasks of a run and their decoders."""

from collections.abc import Sequence

from keras_mtl.configuration.other_tasks import TRANSLATION
from keras_mtl.configuration.schema import PairConfig
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


def translation_tasks(
    sharing: str, prepared: PreparedData, pairs: Sequence[PairConfig] = ()
) -> list[TranslationTask]:
    """Returns the tasks of a run with their decoders and kinds.

    Args:
        sharing: `task.model.sharing`.
        prepared: the prepared data.
        pairs: the configuration of the tasks; a task without one translates.
    """
    kinds = {pair.name: pair.kind for pair in pairs}
    indices = decoder_of_task(sharing, [task.target for task in prepared.tasks])
    return [
        TranslationTask(
            task.name, task.source, task.target, decoder, kinds.get(task.name, TRANSLATION)
        )
        for task, decoder in zip(prepared.tasks, indices, strict=True)
    ]
