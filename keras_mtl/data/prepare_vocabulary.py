"""The vocabulary that `prepare` uses: given by the configuration, or trained on the tasks' text."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from keras_mtl.configuration.schema import DataConfig, PairConfig
from keras_mtl.configuration.source_vocabulary import has_source_vocabulary, source_settings
from keras_mtl.configuration.vocabulary_sections import VocabularyConfig
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.data.vocabulary_training import BOTH_SIDES

_SOURCE, _TARGET = BOTH_SIDES


class VocabularyPart(NamedTuple):
    """A SentencePiece model of a vocabulary.

    Attributes:
        section: its section of the configuration.
        settings: its settings.
        sides: the sides of pairs that it encodes; see `train_vocabulary`.
        languages: languages with a tag, in alphabetical order.
    """

    section: str
    settings: VocabularyConfig
    sides: tuple[int, ...]
    languages: tuple[str, ...]


#: Trains a part.
Train = Callable[[VocabularyPart], Vocabulary]


def parts(tasks: Sequence[PairConfig], data: DataConfig) -> list[VocabularyPart]:
    """Returns the parts of the vocabulary: that of the targets, and that of sources if separate."""
    tags = tuple(sorted({task.target for task in tasks}))
    name = "task.data.vocabulary"
    if not has_source_vocabulary(data):
        return [VocabularyPart(name, data.vocabulary, BOTH_SIDES, tags)]
    return [
        VocabularyPart(name, data.vocabulary, (_TARGET,), ()),
        VocabularyPart("task.data.source_vocabulary", source_settings(data), (_SOURCE,), tags),
    ]


def given_models(tasks: Sequence[PairConfig], data: DataConfig) -> list[bytes | None]:
    """Returns the model of each part that the configuration gives, with tags; None to train it.

    Raises:
        DataError: a file is missing or damaged.
    """
    models: list[bytes | None] = []
    for part in parts(tasks, data):
        path = part.settings.model_file
        found = Vocabulary.load(path).with_languages(part.languages) if path else None
        models.append(None if found is None else found.model_bytes)
    return models


def complete(
    tasks: Sequence[PairConfig], data: DataConfig, given: Iterable[bytes | None], train: Train
) -> list[bytes]:
    """Returns the models of all parts.

    Args:
        tasks: the tasks.
        data: the settings of their data.
        given: result of `given_models`.
        train: function that trains the other parts.
    """
    return [
        train(part).model_bytes if model is None else model
        for part, model in zip(parts(tasks, data), given, strict=True)
    ]


def of_models(models: Sequence[bytes]) -> Vocabulary:
    """Returns the vocabulary of the models of all parts."""
    source = Vocabulary(models[1]) if len(models) > 1 else None
    return Vocabulary(models[0], source=source)


def given_hashes(data: DataConfig) -> Mapping[str, str]:
    """Returns hashes of the models that the configuration gives, by their name in a manifest."""
    files = {"vocabulary_model": data.vocabulary.model_file}
    if has_source_vocabulary(data):
        files["source_vocabulary_model"] = data.source_vocabulary.model_file
    return {name: Vocabulary.load(path).hash for name, path in files.items() if path}
