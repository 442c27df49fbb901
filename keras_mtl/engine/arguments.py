"""Conversion of arguments for C++: token ids, whole numbers, options of beam search.

`keras_mtl.decoding.BeamOptions` lists the options in Python, `cc/engine/beam_options.def` in C++.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl import errors
from keras_mtl.engine import library

Sequences = Iterable[Sequence[int] | np.ndarray]
"""Token ids of sentences: lists, or integer arrays with one axis."""


def whole_number(name: str, value: Any, bits: int = 32) -> int:
    """Returns a whole number that fits into a signed integer of `bits` bits.

    Raises:
        InputError: `value` is not a whole number, or is too large. The message contains `name`.
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
        InputError: the ids are not whole numbers below 2^31. The message contains `name` and the
            index of the sentence.
    """
    arrays = []
    for i, ids in enumerate(sequences):
        try:
            array = np.asarray(ids)
        except (ValueError, TypeError) as error:  # For example, lists of different lengths.
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
                raise errors.InputError(f"{name} {i} contains id {wrong[0]}: give ids below 2^31")
            array = array.astype(np.int32)
        arrays.append(array)
    return arrays


def flat_ids(name: str, sequences: Sequences) -> tuple[np.ndarray, list[int]]:
    """Concatenates the ids of all sentences.

    Returns:
        The ids, int32 `[number of ids]`, and the offset at which each sentence begins, followed by
        the number of ids: `[number of sentences + 1]`.
    """
    arrays = id_arrays(name, sequences)
    begins = np.cumsum([0, *map(len, arrays)]).tolist()
    return np.concatenate([np.zeros([0], np.int32), *arrays]), begins


def whole_numbers(name: str, values: Sequence[int] | None, bits: int = 32) -> list[int]:
    """Applies `whole_number` to each value; None gives an empty list."""
    return [] if values is None else [whole_number(name, value, bits) for value in values]


def option_values(options: Any) -> dict[str, Any]:
    """Returns options by name for `keras_mtl._core`. Omitted options have their defaults.

    Args:
        options: a `keras_mtl.decoding.BeamOptions`, a mapping of its fields, or None for no
            options.

    Raises:
        InputError: an option is unknown. The message suggests the nearest name.
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
    """Formats options for the attribute `options` of the TensorFlow operations: `name=value` lines.

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
