"""Edits a serialized SentencePiece model: the types of pieces, and the table of the normalizer.

The package sentencepiece cannot change a model, and its `sentencepiece_model_pb2` needs protobuf,
which an environment without TensorFlow does not have. This module edits protobuf's wire format.
"""

import functools
import io
import tempfile
from collections.abc import Iterable, Sequence

import sentencepiece

# Keys of fields in protobuf's wire format: number of the field, and 2 for bytes with a length.
# A ModelProto has its pieces, in the order of their ids, and then a NormalizerSpec.
_PIECE_KEY = 1 << 3 | 2
_TRAINER_KEY = 2 << 3 | 2
_NORMALIZER_KEY = 3 << 3 | 2
_CHARSMAP_KEY = 2 << 3 | 2  # Of a NormalizerSpec.
# Fields of a piece: its text; its score, a float, with the value 0; its type, CONTROL.
_TEXT_KEY = 1 << 3 | 2
_ZERO_SCORE = bytes([2 << 3 | 5, 0, 0, 0, 0])
_CONTROL_TYPE = bytes([3 << 3 | 0, 3])
# The type of a model, a number of its TrainerSpec.
_MODEL_TYPE_KEY = 3 << 3 | 0
UNIGRAM, BPE = 1, 2


def model_type(model_bytes: bytes) -> int:
    """Returns the type of a SentencePiece model: `UNIGRAM`, `BPE`, or another number.

    Args:
        model_bytes: a serialized model that SentencePiece can read.
    """
    found, position = UNIGRAM, 0  # The default of the field.
    while position < len(model_bytes):
        key, position = _varint(model_bytes, position)
        size, position = _varint(model_bytes, position)
        if key == _TRAINER_KEY:
            found = _number(model_bytes[position : position + size], _MODEL_TYPE_KEY, found)
        position += size
    return found


def _number(message: bytes, wanted: int, default: int) -> int:
    """Returns the last value of a field with a number."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        if key & 7 == 5:  # A float.
            position += 4
        elif key & 7 == 1:  # A double.
            position += 8
        else:
            value, position = _varint(message, position)
            if key == wanted:
                default = value
            if key & 7 == 2:
                position += value
    return default


def control_symbols(model_bytes: bytes, ids: Iterable[int]) -> bytes:
    """Returns a SentencePiece model in which some pieces are control symbols, never found in text.

    Args:
        model_bytes: a serialized model that SentencePiece can read.
        ids: ids of the pieces.
    """
    chosen = set(ids)
    parts: list[bytes] = []
    token, copied, position = 0, 0, 0
    while token <= max(chosen, default=-1) and position < len(model_bytes):
        key, position = _varint(model_bytes, position)
        if key != _PIECE_KEY:  # A ModelProto of SentencePiece has only length-delimited fields.
            size, position = _varint(model_bytes, position)
            position += size
            continue
        size_position = position
        size, position = _varint(model_bytes, position)
        if token in chosen:
            # If a field occurs twice, the last value holds.
            piece = model_bytes[position : position + size] + _CONTROL_TYPE
            parts += [model_bytes[copied:size_position], _encoded_varint(len(piece)), piece]
            copied = position + size
        position += size
        token += 1
    return b"".join([*parts, model_bytes[copied:]])


def with_controls(model_bytes: bytes, token: int, pieces: Sequence[str]) -> bytes:
    """Returns a SentencePiece model with more control symbols.

    Args:
        model_bytes: a serialized model that SentencePiece can read.
        token: id of the first new symbol, at most the number of pieces; later ids move up.
        pieces: the symbols.
    """
    position, count = 0, 0
    while count < token:
        key, position = _varint(model_bytes, position)
        size, position = _varint(model_bytes, position)
        position += size
        count += key == _PIECE_KEY
    new = b"".join(
        _field(_PIECE_KEY, _field(_TEXT_KEY, piece.encode()) + _ZERO_SCORE + _CONTROL_TYPE)
        for piece in pieces
    )
    return model_bytes[:position] + new + model_bytes[position:]


def with_rule_table(model_bytes: bytes) -> bytes:
    """Returns a SentencePiece model with a table of rules that do not change cleaned text.

    Without a table SentencePiece does not normalize either, but it logs a line each time a model is
    loaded, and the log of tensorflow-text's SentencePiece cannot be disabled from Python.

    Args:
        model_bytes: a serialized model without a table.
    """
    # If a message occurs twice, its fields are merged.
    return model_bytes + _field(_NORMALIZER_KEY, _field(_CHARSMAP_KEY, _rule_table()))


@functools.cache
def _rule_table() -> bytes:
    """Returns a table of one rule, no-break space to space, like `cleaning.normalize`.

    SentencePiece needs a rule to compile a table, and rejects one that maps a character to itself.
    """
    output = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write("A0\t20\n")
        rules.flush()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a b"] * 9),
            model_writer=output,
            model_type="char",
            vocab_size=9,
            hard_vocab_limit=False,
            normalization_rule_tsv=rules.name,
            minloglevel=3,
        )
    return _find(_find(output.getvalue(), _NORMALIZER_KEY), _CHARSMAP_KEY)


def _find(message: bytes, wanted: int) -> bytes:
    """Returns the first field with a key; all fields before it must be length-delimited."""
    position = 0
    while True:
        key, position = _varint(message, position)
        size, position = _varint(message, position)
        if key == wanted:
            return message[position : position + size]
        position += size


def _field(key: int, content: bytes) -> bytes:
    return _encoded_varint(key) + _encoded_varint(len(content)) + content


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Returns a number of protobuf's wire format and the position after it."""
    value, shift = 0, 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _encoded_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
