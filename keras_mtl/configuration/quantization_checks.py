"""Checks of `task.model.quantization`."""

from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.quantization import (
    KINDS,
    OWN_FIELDS,
    PASSIVE_ASYMMETRIC,
    SCHEDULED_CLIP,
    STATIC,
    QuantizationDomainConfig,
    domain_name,
    not_in_weights,
)
from keras_mtl.configuration.variable_patterns import check_pattern, check_patterns

_MOST_BITS = {SCHEDULED_CLIP: 8, PASSIVE_ASYMMETRIC: 16}


def check(draft: Draft) -> None:
    """Adds to a draft what is wrong with `task.model.quantization`."""
    settings, section = draft.config.task.model.quantization, "task.model.quantization"
    check_patterns(draft, f"{section}.exclude", settings.exclude)
    if settings.exclude and not settings.domains:
        draft.problem(
            f"{section}.exclude",
            f"= {settings.exclude}, but there are no domains to exclude layers from. Give "
            "domains, for example [{kind: dynamic}], or remove it",
        )
    seen: dict[str, int] = {}
    for number, domain in enumerate(settings.domains):
        path = f"{section}.domains[{number}]"
        first = seen.setdefault(domain_name(domain), number)
        if first != number:
            draft.problem(
                f"{path}.name",
                f"= {domain.name!r}: {section}.domains[{first}] is also named "
                f"{domain_name(domain)!r}; give them different names",
            )
        _check_domain(draft, path, domain)
    evaluation = draft.config.trainer.evaluation
    if evaluation.backend != "tf" and (
        reason := not_in_weights(settings.domains, evaluation.compute_type)
    ):
        draft.problem(
            "trainer.evaluation.compute_type",
            f"= {evaluation.compute_type!r}: {reason}, or set trainer.evaluation.backend: tf",
        )


def _check_domain(draft: Draft, path: str, domain: QuantizationDomainConfig) -> None:
    draft.choice(f"{path}.kind", KINDS)
    check_pattern(draft, f"{path}.match", domain.match)
    for field, kinds in OWN_FIELDS.items():
        value = getattr(domain, field)
        if value is not None and domain.kind in KINDS and domain.kind not in kinds:
            draft.problem(
                f"{path}.{field}",
                f"= {value}: only kind: {' and '.join(kinds)} has this field; remove it",
            )
    for field in ("start_step", "freeze_step", "clip_start_step", "clip_end_step"):
        draft.range(f"{path}.{field}", 0)
    draft.range(f"{path}.bits", 2, _MOST_BITS.get(domain.kind, 16))
    draft.range(f"{path}.ema_decay", 0, 1, high_open=True)
    for field in ("start_cap", "end_cap"):
        draft.range(f"{path}.{field}", 0, low_open=True)
    if domain.kind == STATIC and domain.freeze_step == 0:
        draft.problem(
            f"{path}.freeze_step",
            "= 0: no range would ever be measured. Set it to the number of steps that measure "
            "ranges, or remove it",
        )
    if domain.kind == SCHEDULED_CLIP:
        _check_clipping(draft, path, domain)


def _check_clipping(draft: Draft, path: str, domain: QuantizationDomainConfig) -> None:
    end = domain.clip_end_step
    if end is not None and end > domain.start_step:
        draft.problem(
            f"{path}.clip_end_step",
            f"= {end} is after {path}.start_step = {domain.start_step}: values are rounded when "
            "the range has its final size. Set it to at most the start step",
        )
    start = domain.clip_start_step or 0
    last = domain.start_step if end is None else end
    if start > last:
        draft.problem(
            f"{path}.clip_start_step",
            f"= {start} is after the end of clipping, step {last}; set it to at most that",
        )
