"""Options of beam search on their way into C++: by name for the module, as lines for operations.

`keras_mtl.decoding.BeamOptions` is the list of options in Python, `cc/engine/beam_options.def` the
one in C++.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_mtl import errors
from keras_mtl.engine import library


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
