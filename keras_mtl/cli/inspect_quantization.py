"""What `keras-mtl inspect` prints about quantization-aware training."""

from collections.abc import Sequence

from keras_mtl.configuration.quantization import (
    BITS,
    DYNAMIC,
    SCHEDULED_CLIP,
    STATIC,
    QuantizationConfig,
    QuantizationDomainConfig,
    domain_name,
    domain_number,
    not_in_ctranslate2,
    not_in_weights,
)


def quantization_lines(settings: QuantizationConfig, layers: Sequence[str]) -> list[str]:
    """Returns a line for each domain, one for the other layers, and the formats that are refused.

    Args:
        settings: `task.model.quantization`.
        layers: names of the layers that can be quantized.
    """
    if not settings.domains:
        return []
    numbers = [domain_number(settings, layer) for layer in layers]
    lines = [
        f"quantization {domain_name(domain)}: {_described(domain)}; layers: {numbers.count(i)}"
        for i, domain in enumerate(settings.domains)
    ]
    others = [layer for layer, number in zip(layers, numbers, strict=True) if number is None]
    if others:
        lines.append(f"  not quantized: {', '.join(others)}")
    for reason, what in (
        (not_in_weights(settings.domains, "float32"), "engine files with float32 weights"),
        (not_in_weights(settings.domains, "int8"), "engine files with int8 weights"),
        (not_in_ctranslate2(settings.domains, "float32"), "CTranslate2"),
    ):
        if reason:
            lines.append(f"no export to {what}: {reason}")
    if any(domain.kind == STATIC for domain in settings.domains):
        lines.append("CTranslate2 does not use the ranges of inputs; it has a scale for each row")
    return lines


def _described(domain: QuantizationDomainConfig) -> str:
    start = f"from step {domain.start_step:,}"
    if domain.kind == DYNAMIC:
        return f"int8 {start}, with a scale for each row of inputs"
    if domain.kind == SCHEDULED_CLIP:
        first = domain.clip_start_step or 0
        end = domain.start_step if domain.clip_end_step is None else domain.clip_end_step
        caps = [8.0 if domain.start_cap is None else domain.start_cap]
        caps.append(1.0 if domain.end_cap is None else domain.end_cap)
        return (
            f"clipped from ±{caps[0]:g} at step {first:,} to ±{caps[1]:g} at step {end:,}, "
            f"int{domain.bits or BITS} {start}"
        )
    decay = 0.99 if domain.ema_decay is None else domain.ema_decay
    until = "" if domain.freeze_step is None else f" until step {domain.freeze_step:,}"
    ranges = f"ranges of inputs with a decay of {decay:g}{until}"
    if domain.kind == STATIC:
        return f"int8 {start}, with one scale for all inputs of a layer; {ranges}"
    return (
        f"{domain.bits or BITS} bits with a zero point {start}; {ranges}; for runtimes other than "
        "the engine, whose int8 has no zero point"
    )
