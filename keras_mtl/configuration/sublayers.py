"""Parts of the Transformer that a configuration chooses by name; free of TensorFlow.

The registries of `keras_mtl.layers` hold the classes. This module holds only what must be known
without TensorFlow: the names of our own parts, and the reason why the C++ engine and other formats
cannot hold a model that has others.
"""

import os
from typing import Any

from keras_mtl.configuration import architectures
from keras_mtl.configuration.stack_sharing import BY_STACK
from keras_mtl.run_files import PARAMS_FILE

STANDARD = {"self_attention": "multi_head", "feed_forward": "standard", "norm": "layer_norm"}
"""Default sub-layer by field of `task.model`."""

BUILT_IN = {
    "self_attention": ("multi_head",),
    "feed_forward": ("standard", "gated"),
    "norm": ("layer_norm", "rms_norm"),
}
"""Names of our own sub-layers by field of `task.model`. Other names come from plug-ins."""

POSITIONS = ("sinusoidal", "learned", "rotary", "none")
"""How a model knows the positions of tokens: values of `task.model.positions`."""

ROTARY_WAVELENGTH = 10_000.0
"""Longest wavelength of rotary positions, divided by 2π: θ_i = 10000^(-2i/d) in the paper."""

NORM_POSITIONS = ("pre", "post")
"""Where sub-layers are normalized: values of `task.model.norm_position`."""


def only_tensorflow(model: Any) -> str:
    """Returns what of a model only TensorFlow runs, such as sub-layers of plug-ins.

    Args:
        model: a `TransformerConfig`, a model, or another object with these fields.

    Returns:
        The reason as a clause for a message, such as `task.model.norm is 'mine', and only
        TensorFlow runs sub-layers of plug-ins`; empty if the engine runs all of them.
    """
    if reason := architectures.only_tensorflow(model.architecture):
        return reason
    if model.sharing == BY_STACK:
        return _BY_STACK
    return _reason({field: getattr(model, field) for field in STANDARD})


def not_in_ctranslate2(model: Any) -> str:
    """Returns the choices of a model that CTranslate2 does not have, as a clause for a message.

    Args:
        model: as for `only_tensorflow`.

    Returns:
        The reason; empty if CTranslate2 has all of them, or if the reason is that of
        `only_tensorflow`.
    """
    return _TRANSPARENT if model.transparent_attention else ""


def saved_not_in_ctranslate2(model_dir: str | os.PathLike[str]) -> str:
    """Like `not_in_ctranslate2`, for the model of a run directory; imports no TensorFlow."""
    return _TRANSPARENT if _saved_fields(model_dir).get("transparent_attention") is True else ""


_BY_STACK = "task.model.sharing is 'by_stack', and only TensorFlow runs such models"

_TRANSPARENT = (
    "task.model.transparent_attention is true, and CTranslate2 gives all decoder layers the same "
    "output of the encoder"
)


def saved_only_tensorflow(model_dir: str | os.PathLike[str]) -> str:
    """Like `only_tensorflow`, for the model of a run directory; imports no TensorFlow.

    Also empty if `params.yaml` is missing or damaged: the code that reads it as a configuration
    reports that.
    """
    values = _saved_fields(model_dir)
    if reason := architectures.only_tensorflow(values.get("architecture", "")):
        return reason
    if values.get("sharing") == BY_STACK:
        return _BY_STACK
    return _reason({field: values.get(field, ours) for field, ours in STANDARD.items()})


def _saved_fields(model_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the section `task.model` of a run directory; empty if it cannot be read."""
    # An environment that has only the engine lacks the package yaml.
    from keras_mtl.configuration import reading

    values: Any = reading.read_values(os.path.join(model_dir, PARAMS_FILE))
    for key in ("task", "model"):
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def _reason(names: dict[str, Any]) -> str:
    replaced = [
        f"task.model.{field} is {name!r}"
        for field, name in names.items()
        if name not in BUILT_IN[field]
    ]
    if not replaced:
        return ""
    return f"{' and '.join(replaced)}, and only TensorFlow runs sub-layers of plug-ins"
