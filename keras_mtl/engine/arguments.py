"""Arguments on their way into C++: token ids, whole numbers, options of beam search.

`keras_mtl.decoding.BeamOptions` is the list of options in Python, `cc/engine/beam_options.def` the
one in C++.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl import errors
from keras_mtl.engine import library

Sequences = Iterable[Sequence[int] | np.ndarray]
"""Token ids of sentences: lists, or integer arrays of one dimension."""


def whole_number(name: str, value: Any, bits: int = 32) -> int:
    """Returns a whole number that fits into a signed integer of `bits` bits.

    Raises:
        InputError: the value is not a whole number, or too large; the message has `name`.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise errors.InputError(f"{name}={value!r}: give a whole number")
    whole = int(value)
    if abs(whole) >= 2 ** (bits - 1):
        raise errors.InputError(f"{name}={value!r}: give a whole number below 2^{bits - 1}")
    return whole


def id_arrays(name: str, sequences: Sequences) -> list[np.ndarray]:
    """Returns the ids of each sentence as an int32 array.

    Raises:
        InputError: ids are not whole numbers below 2^31; the message has `name` and the sentence.
    """
    arrays = []
    for i, ids in enumerate(sequences):
        try:
            array = np.asarray(ids)
        except (ValueError, TypeError) as error:  # Lists of unequal length instead of ids.
            raise errors.InputError(f"{name} {i} is not a list of token ids: {error}") from error
        if array.size == 0:
            array = np.zeros([0], np.int32)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise errors.InputError(
                f"{name} {i} is {array.dtype} of shape {list(array.shape)}: give a list of "
                "token ids, which are whole numbers"
            )
        if array.dtype != np.int32:
            wrong = array[(array < -(2**31)) | (array >= 2**31)]
            if wrong.size:
                raise errors.InputError(f"{name} {i} contains id {wrong[0]}; ids are below 2^31")
            array = array.astype(np.int32)
        arrays.append(array)
    return arrays


def flat_ids(name: str, sequences: Sequences) -> tuple[np.ndarray, list[int]]:
    """Concatenates the ids of all sentences.

    Returns:
        int32[ids of all sentences], and the offsets of the sentences in it: one more than there are
        sentences, from 0 to the number of ids.
    """
    arrays = id_arrays(name, sequences)
    begins = np.cumsum([0, *map(len, arrays)]).tolist()
    return np.concatenate([np.zeros([0], np.int32), *arrays]), begins


def whole_numbers(name: str, values: Sequence[int] | None, bits: int = 32) -> list[int]:
    """Applies `whole_number` to each value; None gives an empty list."""
    return [] if values is None else [whole_number(name, value, bits) for value in values]


def option_values(options: Any) -> dict[str, Any]:
    """Returns options by name, as `keras_mtl._core` takes them; those left out have their default.

    Args:
        options: a `keras_mtl.decoding.BeamOptions`, or a mapping of its fields; None is no options.

    Raises:
        InputError: an option is unknown; the message names the nearest.
        NativeError: the C++ core cannot be loaded.
    """
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        values: Mapping[str, Any] = dataclasses.asdict(options)
    else:
        values = options or {}
        known = library.core().option_defaults()
        for name in values:
            if name not in known:
                raise errors.InputError(
                    f"unknown decoding option {name!r}{errors.nearest(name, known)}"
                )
    return {name: value for name, value in values.items() if value is not None}


def option_lines(options: Any) -> str:
    """Returns options as the attribute `options` of the operations: a line `name=value` for each.

    Args:
        options: a `keras_mtl.decoding.BeamOptions`.
    """
    lines = []
    for name, value in dataclasses.asdict(options).items():
        if value is None:
            continue
        if isinstance(value, bool):
            value = int(value)
        elif isinstance(value, tuple):
            value = ",".join(map(str, value))
        lines.append(f"{name}={value}\n")
    return "".join(lines)
