"""Quantization-aware training: its section, and which formats hold the models; free of TensorFlow.

`keras_mtl.quantization` computes with it.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

DYNAMIC, STATIC = "dynamic", "static"
SCHEDULED_CLIP, PASSIVE_ASYMMETRIC = "scheduled_clip", "passive_asymmetric"
KINDS = (DYNAMIC, STATIC, SCHEDULED_CLIP, PASSIVE_ASYMMETRIC)
BITS = 8
"""Bits of the engine's integers."""

OWN_FIELDS = {
    "bits": (SCHEDULED_CLIP, PASSIVE_ASYMMETRIC),
    "ema_decay": (STATIC, PASSIVE_ASYMMETRIC),
    "freeze_step": (STATIC, PASSIVE_ASYMMETRIC),
    "clip_start_step": (SCHEDULED_CLIP,),
    "clip_end_step": (SCHEDULED_CLIP,),
    "start_cap": (SCHEDULED_CLIP,),
    "end_cap": (SCHEDULED_CLIP,),
}
"""The kinds of domains that have a field that others do not have."""


@dataclasses.dataclass(slots=True)
class QuantizationDomainConfig:
    """How the layers of a group are quantized.

    Attributes:
        name: unique name for messages; empty means the kind.
        kind: `dynamic`: int8 as the engine computes it, with a scale for each output of the weights
            and each row of the inputs; `static`: the same, with one scale for all inputs of a
            layer; `scheduled_clip`: one fixed range for weights and inputs, to which values are
            clipped in steps; `passive_asymmetric`: ranges with a zero point, for int8 runtimes
            other than the engine.
        match: regular expression for the whole names of the layers, for example
            `encoder/.*/feed_forward/.*`. A layer belongs to the first domain that matches.
        start_step: training step from which on values are rounded.
        bits: bits of an integer: 2 to 8 of `scheduled_clip`, 2 to 16 of `passive_asymmetric`; None
            takes 8.
        ema_decay: decay of the moving average of the ranges of `static` and `passive_asymmetric`,
            in [0, 1); None takes 0.99.
        freeze_step: step from which on these ranges stay as they are; None never. With the value of
            `start_step`, ranges are calibrated first and then applied.
        clip_start_step: step from which on `scheduled_clip` clips values; None takes 0.
        clip_end_step: step at which the range has its final size, at most `start_step`; None takes
            `start_step`.
        start_cap: first limit of the magnitude of values; None takes 8.
        end_cap: final limit; None takes 1.
    """

    name: str = ""
    kind: str = DYNAMIC
    match: str = ".*"
    start_step: int = 0
    bits: int | None = None
    ema_decay: float | None = None
    freeze_step: int | None = None
    clip_start_step: int | None = None
    clip_end_step: int | None = None
    start_cap: float | None = None
    end_cap: float | None = None


@dataclasses.dataclass(slots=True)
class QuantizationConfig:
    """Quantization-aware training; without domains, there is none.

    Attributes:
        domains: groups of layers and how they are quantized.
        exclude: regular expressions for the whole names of layers that are not quantized.
    """

    domains: list[QuantizationDomainConfig] = dataclasses.field(default_factory=list)
    exclude: list[str] = dataclasses.field(default_factory=list)


def of_mapping(values: "QuantizationConfig | Mapping[str, Any] | None") -> QuantizationConfig:
    """Returns the section from what `dataclasses.asdict` returned, also after JSON."""
    if isinstance(values, QuantizationConfig):
        return values
    values = values or {}
    domains = [
        each if isinstance(each, QuantizationDomainConfig) else QuantizationDomainConfig(**each)
        for each in values.get("domains", [])
    ]
    return QuantizationConfig(domains, list(values.get("exclude", [])))


def domain_number(settings: QuantizationConfig, layer: str) -> int | None:
    """Returns the number of the domain of a layer; None if it is not quantized.

    Args:
        settings: `task.model.quantization`.
        layer: name of the layer, such as `encoder/layer_0/attention/qkv`.
    """
    if any(re.fullmatch(pattern, layer) for pattern in settings.exclude):
        return None
    for number, domain in enumerate(settings.domains):
        if re.fullmatch(domain.match, layer):
            return number
    return None


def domain_name(domain: QuantizationDomainConfig) -> str:
    """Returns the name of a domain."""
    return domain.name or domain.kind


def not_in_weights(domains: Sequence[QuantizationDomainConfig], weight_type: str) -> str:
    """Returns why engine files with weights of a type do not compute what was trained.

    Args:
        domains: `task.model.quantization.domains`.
        weight_type: `float32` or `int8`.

    Returns:
        A clause for a message; empty if they do.
    """
    for domain in domains:
        name = f"the domain {domain_name(domain)!r} of task.model.quantization"
        if domain.kind == PASSIVE_ASYMMETRIC and weight_type != "float32":
            return (
                f"{name} is {PASSIVE_ASYMMETRIC}: it has zero points, but {weight_type} is "
                "symmetric here. Use float32, in which the model has the weights before rounding"
            )
        if domain.kind != SCHEDULED_CLIP:
            continue
        if domain.bits not in (None, BITS):
            return f"{name} has {domain.bits} bits, but the engine has {BITS}. Train with bits: 8"
        if weight_type == "float32":
            return f"{name} clips the inputs of layers, which float32 does not. Use int8"
    return ""


def not_in_ctranslate2(domains: Sequence[QuantizationDomainConfig], weight_type: str) -> str:
    """Returns why CTranslate2 does not compute what was trained; see `not_in_weights`."""
    for domain in domains:
        if domain.kind == SCHEDULED_CLIP:
            return (
                f"the domain {domain_name(domain)!r} of task.model.quantization clips the inputs "
                "of layers, which CTranslate2 does not. Use --format engine --weight_type int8"
            )
    return not_in_weights(domains, "int8" if weight_type.startswith("int8") else "float32")
