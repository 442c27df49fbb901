"""The tokens that every search suppresses because no text contains them. No TensorFlow."""

from collections.abc import Sequence

import numpy as np

from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.errors import InputError


def suppressed_ids(vocabulary: Vocabulary) -> list[int]:
    """Returns the ids that no translation may contain.

    These are padding, start of sentence, `<unk>` (bytes encode text without pieces), language tags,
    and the bytes of ASCII control characters, so that a translation is always one line.
    """
    control = {f"<0x{byte:02X}>" for byte in [*range(0x20), 0x7F]}
    tags = [vocabulary.tag_id(language) for language in vocabulary.languages]
    bytes_ = [i for i in np.flatnonzero(vocabulary.is_byte) if vocabulary.piece(int(i)) in control]
    return [vocabulary.pad_id, vocabulary.bos_id, vocabulary.unk_id, *tags, *map(int, bytes_)]


def model_options(
    options: BeamOptions, suppressed: Sequence[int], vocabulary: Vocabulary, max_length: int
) -> BeamOptions:
    """Returns the options for a model's search, which also suppress `suppressed`.

    Args:
        options: the caller's options.
        suppressed: result of `suppressed_ids`.
        vocabulary: the model's vocabulary.
        max_length: number of the model's positions.

    Raises:
        InputError: the model or the vocabulary does not support the options.
    """
    if options.max_length > max_length:
        raise InputError(
            f"max_length={options.max_length} of decoding exceeds the model's {max_length} "
            "positions. Lower it, or train with a higher task.model.max_length"
        )
    known = (token for token in suppressed if token < vocabulary.size)
    options = options.replace(suppress=tuple({*options.suppress, *known}))
    options.check_vocabulary(vocabulary.size, vocabulary.eos_id)
    return options
