"""Small vocabularies of both types, and texts that they encode."""

import functools

from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.data.vocabulary_training import train_on

TEXTS = (
    "the cat sat on the mat",
    "a hat, a cat and that chat",
    "running there and here",
    "their other mother sat there then",
    "ünter dem großen Baum sitzen Katzen",
)
# With characters without a piece, in and between words.
UNSEEN = "cats 漢字 x漢t the"
SIZES = {"unigram": 292, "bpe": 320}


@functools.cache
def vocabulary(model_type: str) -> Vocabulary:
    """Returns a vocabulary, trained in a moment."""
    return train_on(
        iter(TEXTS * 2),
        ["en", "fr"],
        size=SIZES[model_type],
        model_type=model_type,
        character_coverage=1.0,
    )
