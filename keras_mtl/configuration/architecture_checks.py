"""Checks which fields of `task.model` its architecture has."""

import dataclasses

from keras_mtl.configuration.architectures import ARCHITECTURES, HYBRID, RNMT, TRANSFORMER
from keras_mtl.configuration.draft import Draft
from keras_mtl.errors import nearest

_PARTS_OF_LAYERS = "a part of the layers of a Transformer"
# Fields that an architecture does not have, and what they are.
_MISSING = {
    TRANSFORMER: {},
    RNMT: {
        "intermediate_dim": _PARTS_OF_LAYERS,
        "activation_dropout": _PARTS_OF_LAYERS,
        "activation": _PARTS_OF_LAYERS,
        "self_attention": _PARTS_OF_LAYERS,
        "self_attention_parameters": _PARTS_OF_LAYERS,
        "transparent_attention": "for decoders whose layers each attend to the source",
        "feed_forward": _PARTS_OF_LAYERS,
        "feed_forward_parameters": _PARTS_OF_LAYERS,
        "norm": _PARTS_OF_LAYERS,
        "norm_parameters": _PARTS_OF_LAYERS,
        "norm_position": _PARTS_OF_LAYERS,
        "positions": "for layers that see a set of tokens; an LSTM reads them in order",
        "adapters": _PARTS_OF_LAYERS,
        "quantization": "for the layers of a Transformer",
        "recompute": "for layers of a Transformer; an LSTM layer already keeps only its states",
    },
    HYBRID: {
        "transparent_attention": "for decoders whose layers each attend to the source",
        "adapters": "for models whose encoder and decoder are those of a Transformer",
        "quantization": "for models whose encoder and decoder are those of a Transformer",
    },
}


def check(draft: Draft) -> None:
    """Adds to a draft the fields of `task.model` that its architecture does not have."""
    model = draft.config.task.model
    if model.architecture not in ARCHITECTURES:
        draft.problem(
            "task.model.architecture",
            f"= {model.architecture!r} is unknown{nearest(str(model.architecture), ARCHITECTURES)}",
        )
        return
    missing = _MISSING[model.architecture]
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if field.name not in missing or value == _default(field):
            continue
        given = f"= {value!r}" if isinstance(value, (str, int, float, bool)) else "is given"
        draft.problem(
            f"task.model.{field.name}",
            f"{given}: it is {missing[field.name]}, but task.model.architecture is "
            f"{model.architecture!r}; remove it",
        )


def _default(field: dataclasses.Field) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
