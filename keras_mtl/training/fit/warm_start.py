"""First weights of a model that `model.fit` or a loop of your own trains."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl.configuration.initial_weights import InitConfig
from keras_mtl.configuration.overriding import set_values
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.data.vocabulary_files import read_vocabulary
from keras_mtl.errors import ConfigError, InputError
from keras_mtl.training.run.first_weights import take_first_weights

Source = str | os.PathLike[str] | Mapping[str, Any]


def warm_start(
    model: Any,
    vocabulary: Vocabulary | str | os.PathLike[str],
    sources: Source | Sequence[Source],
) -> list[str]:
    """Assigns weights of trained models to a Transformer, as `task.model.init` does.

    Call it before `model.fit`. Rows of embeddings and of the projection to logits follow their
    pieces, if the vocabularies differ.

    Args:
        model: a built `keras_mtl.Transformer`.
        vocabulary: its vocabulary, or the file of it, such as `vocabulary.model` of a run; if
            sources have their own vocabulary, the directory of both files.
        sources: trained models; later ones override earlier ones. Each is a path (a model
            directory, a checkpoint in one, or an engine file), or a mapping with the fields `from`,
            `rules` and `exclude` of `task.model.init`.

    Returns:
        Lines that say what each layer took, and why the others took nothing.

    Raises:
        ConfigError: a source cannot be used, or its rules do not fit; or a source asks for
            `moments`, which only `keras-mtl train` can take.
        DataError: the vocabulary cannot be read.
        InputError: the vocabulary is not that of the model.

    Example:
        ```python
        import keras_mtl

        config = keras_mtl.load_config("configs/demo.yaml")
        data = keras_mtl.prepare(config, "runs/demo", log=lambda line: None)
        size = data.vocabulary.size
        model = keras_mtl.Transformer(
            vocabulary_size=size,
            hidden_dim=128,
            num_heads=4,
            intermediate_dim=512,
            encoder_layers=2,
            decoder_layers=2,
        )
        for line in keras_mtl.warm_start(model, data.vocabulary, "runs/demo"):
            print(line)
        ```
    """
    if not isinstance(vocabulary, Vocabulary):
        read = read_vocabulary if os.path.isdir(vocabulary) else Vocabulary.load
        vocabulary = read(vocabulary)
    _check_sizes(model, vocabulary)
    if isinstance(sources, str | os.PathLike | Mapping):
        sources = [sources]
    return take_first_weights(model, vocabulary, [_settings(each) for each in sources]).lines


def _check_sizes(model: Any, vocabulary: Vocabulary) -> None:
    """Raises InputError if a vocabulary is not that of a model."""
    for what, size, own in (
        ("vocabulary", model.vocabulary_size, vocabulary.size),
        ("vocabulary of sources", model.source_vocabulary_size, vocabulary.source.size),
    ):
        if own != size:
            raise InputError(
                f"the {what} has {own} ids, but the model has {size}. Give the vocabulary of the "
                "model"
            )


def _settings(source: Source) -> InitConfig:
    settings = InitConfig()
    given = source if isinstance(source, Mapping) else {"from": os.fspath(source)}
    set_values(settings, given)
    if settings.moments:
        raise ConfigError(
            "moments = true: the optimizer of model.fit takes no moments of another run. Leave "
            "moments out, or use keras-mtl train"
        )
    return settings
