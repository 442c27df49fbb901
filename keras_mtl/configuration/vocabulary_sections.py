"""The sections of a configuration about vocabularies."""

import dataclasses


@dataclasses.dataclass(slots=True)
class VocabularyConfig:
    """The SentencePiece vocabulary shared by all tasks.

    Attributes:
        size: number of ids, including special ids, language tags and 256 byte pieces.
        model_type: `unigram` or `bpe`.
        temperature: the vocabulary is trained on samples of the tasks in proportion to
            n_i^(1/temperature), with n_i the pairs of task i; >= 1.
        max_sentences: largest number of sentences that it is trained on.
        character_coverage: share of characters with a piece of their own, in (0, 1].
        model_file: an existing SentencePiece model to use instead of training one.
    """

    size: int = 8000
    model_type: str = "unigram"
    temperature: float = 5.0
    max_sentences: int = 1_000_000
    character_coverage: float = 0.9995
    model_file: str = ""


@dataclasses.dataclass(slots=True)
class SourceVocabularyConfig:
    """The vocabulary of the sources, if it is not that of the targets.

    Sources have their own vocabulary if `size` or `model_file` is set; language tags are then only
    in this vocabulary. Fields that are None, and the fields that are missing here, take the values
    of `task.data.vocabulary`.

    Attributes:
        size: number of ids, including special ids, language tags and 256 byte pieces; None uses
            `task.data.vocabulary` for sources, too, unless `model_file` is set.
        model_type: `unigram` or `bpe`.
        character_coverage: share of characters with a piece of their own, in (0, 1].
        model_file: an existing SentencePiece model to use instead of training one.
    """

    size: int | None = None
    model_type: str | None = None
    character_coverage: float | None = None
    model_file: str = ""
