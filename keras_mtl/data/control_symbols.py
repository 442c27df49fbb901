"""Edits the types of pieces in a serialized SentencePiece model.

The package sentencepiece cannot change a piece of a model, and its ``sentencepiece_model_pb2``
needs protobuf, which an environment without TensorFlow does not have. This module edits protobuf's
wire format: pieces are field 1 of a ModelProto, in the order of their ids.
"""

from collections.abc import Iterable

# Field 1 of a ModelProto (a piece), and field 3 of a piece (its type) with the value CONTROL.
_PIECE_KEY = 1 << 3 | 2
_CONTROL_TYPE = bytes([3 << 3 | 0, 3])


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
        if key != _PIECE_KEY:  # A ModelProto of SentencePiece has length-delimited fields only.
            size, position = _varint(model_bytes, position)
            position += size
            continue
        size_position = position
        size, position = _varint(model_bytes, position)
        if token in chosen:
            # Of a field that occurs twice, the last value holds.
            piece = model_bytes[position : position + size] + _CONTROL_TYPE
            parts += [model_bytes[copied:size_position], _encoded_varint(len(piece)), piece]
            copied = position + size
        position += size
        token += 1
    return b"".join([*parts, model_bytes[copied:]])


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Returns a number of protobuf's wire format and the position behind it."""
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
