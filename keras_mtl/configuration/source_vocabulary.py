"""A vocabulary of the sources only: `task.data.source_vocabulary`. Imports no TensorFlow."""

import dataclasses
from typing import TYPE_CHECKING, Any

from keras_mtl.configuration.other_tasks import DENOISING, MASS
from keras_mtl.configuration.vocabulary_sections import SourceVocabularyConfig

if TYPE_CHECKING:
    from keras_mtl.configuration.draft import Draft

_SECTION = "task.data.source_vocabulary"
# Padding, start and end of sentence, and `<unk>`.
_SPECIAL_IDS = 4
_BYTE_PIECES = 256


def has_source_vocabulary(data: Any) -> bool:
    """Whether sources have a vocabulary of their own.

    Args:
        data: a `keras_mtl.configuration.schema.DataConfig`.
    """
    own = data.source_vocabulary
    return own.size is not None or bool(own.model_file)


def source_settings(data: Any) -> Any:
    """Returns the settings of the vocabulary of sources.

    Args:
        data: a `keras_mtl.configuration.schema.DataConfig`.

    Returns:
        A `VocabularyConfig`: the section's own values, else those of `data.vocabulary`.
    """
    own = {
        field.name: value
        for field in dataclasses.fields(data.source_vocabulary)
        if (value := getattr(data.source_vocabulary, field.name)) is not None
    }
    return dataclasses.replace(data.vocabulary, **own)


def vocabulary_sizes(data: Any) -> tuple[int, int | None]:
    """Returns the configured sizes of the vocabulary and of that of sources, if it is separate."""
    source = source_settings(data).size if has_source_vocabulary(data) else None
    return data.vocabulary.size, source


def describe_sizes(size: int, source_size: int | None) -> str:
    """Returns the sizes of the vocabulary and of the sources' own one in words."""
    if source_size is None:
        return f"vocabulary of {size:,} ids"
    return f"vocabularies of {source_size:,} ids of sources and {size:,} of targets"


def check(draft: "Draft") -> None:
    """Adds to a draft what is wrong with the vocabularies, and what cannot have two of them."""
    data = draft.config.task.data
    draft.choice("task.data.vocabulary.model_type", ("unigram", "bpe"))
    draft.range("task.data.vocabulary.temperature", 1)
    draft.range("task.data.vocabulary.max_sentences", 1)
    draft.range("task.data.vocabulary.character_coverage", 0, 1, low_open=True)
    separate = has_source_vocabulary(data)
    tags = len({pair.target for pair in draft.config.task.pairs})
    _check_size(draft, "task.data.vocabulary", data.vocabulary, 0 if separate else tags)
    if not separate:
        if data.source_vocabulary != SourceVocabularyConfig():
            draft.problem(
                _SECTION,
                "has neither size nor model_file, so sources have no vocabulary of their own; set "
                "one of them, or remove the section",
            )
        return
    if data.source_vocabulary.model_type is not None:
        draft.choice(f"{_SECTION}.model_type", ("unigram", "bpe"))
    draft.range(f"{_SECTION}.character_coverage", 0, 1, low_open=True)
    _check_size(draft, _SECTION, source_settings(data), tags)
    for index, pair in enumerate(draft.config.task.pairs):
        if pair.kind == DENOISING and pair.noise.method == MASS:
            draft.problem(
                f"task.pairs[{index}].noise.method",
                "= 'mass' masks a span of pieces that is the target, but sources and targets have "
                f"different pieces with {_SECTION}; use method: words, or one vocabulary",
            )


def check_tables(draft: "Draft") -> None:
    """Adds a problem to a draft if one table would serve two vocabularies."""
    task = draft.config.task
    if has_source_vocabulary(task.data) and task.model.tie_embeddings:
        draft.problem(
            "task.model.tie_embeddings",
            f"= true: one table for source and target needs one vocabulary, but {_SECTION} gives "
            "sources another one; set tie_embeddings: false, and tie_projection: true to keep one "
            "table for target and projection",
        )


def _check_size(draft: "Draft", section: str, settings: Any, tags: int) -> None:
    least = _SPECIAL_IDS + _BYTE_PIECES + tags + 1
    if settings.model_file or settings.size >= least:
        return
    needs = f"{_SPECIAL_IDS} special ids, {_BYTE_PIECES} byte pieces and {tags} language tags"
    if not tags:
        needs = f"{_SPECIAL_IDS} special ids and {_BYTE_PIECES} byte pieces"
    draft.problem(f"{section}.size", f"= {settings.size}: {needs} need at least {least}")
