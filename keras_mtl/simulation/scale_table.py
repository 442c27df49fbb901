"""The table of a plan on paper, for the user."""

import math

import numpy as np

from keras_mtl.configuration.source_vocabulary import describe_sizes, vocabulary_sizes
from keras_mtl.simulation.accelerators import Hardware
from keras_mtl.simulation.experiment import Experiment
from keras_mtl.simulation.scale_plan import PAGE, ScalePlan

Row = tuple[str, str, str]


def plan_rows(plan: ScalePlan, experiment: Experiment, hardware: Hardware) -> list[Row]:
    """Returns the table of a plan: quantity, value, and where it comes from.

    Args:
        plan: the plan.
        experiment: its experiment.
        hardware: its hardware.
    """
    return [
        *_data_rows(plan, experiment),
        *_update_rows(plan, experiment, hardware),
        *_memory_rows(plan),
        *_host_rows(plan, experiment),
        ("checkpoint", bytes_text(plan.checkpoint_bytes), "weights, moments and averages"),
        (
            "checkpoints",
            bytes_text(plan.kept_bytes),
            f"{experiment.config.trainer.max_to_keep} kept, and the best weights",
        ),
    ]


def _data_rows(plan: ScalePlan, experiment: Experiment) -> list[Row]:
    data = experiment.config.task.data
    known = "of the prepared data" if experiment.rows_known else "as given or assumed"
    sizes = np.array([float(task.size) for task in experiment.tasks])
    source, target = sizes @ experiment.lengths / sizes.sum()
    kind = f"granularity {data.granularity}{', packed' if data.packing else ''}"
    vocabulary = describe_sizes(*vocabulary_sizes(data)).removesuffix(" ids")
    return [
        ("tasks", f"{plan.tasks:,}", known),
        ("pairs", f"{plan.pairs:,}", known),
        ("mean pair", f"{source:.1f} + {target:.1f} tokens", known),
        (
            "data",
            bytes_text(plan.data_bytes),
            f"16 B a pair, {plan.token_bytes} B a piece; each host needs all",
        ),
        (
            "parameters",
            f"{plan.parameters:,}",
            vocabulary,
        ),
        ("batch", f"{plan.batch_pairs:,.0f} pairs", plan.batch_shape),
        ("padding", f"{plan.padding:.0%}", f"assumed: measured with 1,000 other tasks, {kind}"),
    ]


def _update_rows(plan: ScalePlan, experiment: Experiment, hardware: Hardware) -> list[Row]:
    peak = hardware.peak(experiment.config.runtime.mixed_precision_dtype)
    bandwidth = bytes_text(hardware.chip.bandwidth)
    rows = [
        ("hosts", f"{hardware.hosts:,}", f"{hardware.host_cores:,} cores each"),
        ("cores" if hardware.is_cpu else "chips", f"{hardware.chips:,}", hardware.chip.label),
        ("update", f"{plan.flops:.3g} FLOP", "matrix products of three passes"),
        ("  by operations", seconds_text(plan.flops_seconds), f"peak of {peak:.3g} FLOP/s"),
        (
            "  by memory access",
            seconds_text(plan.access_seconds),
            f"estimate of {bytes_text(plan.access)}; {bandwidth}/s a chip",
        ),
    ]
    if plan.exchange_seconds:
        gradients = bytes_text(plan.exchanged_bytes)
        rows.append(
            (
                "  sum of gradients",
                seconds_text(plan.exchange_seconds),
                f"{gradients} around a ring; may overlap with the backward pass",
            )
        )
    for name, updates in (("epoch", plan.epoch_updates), ("run", float(plan.run_updates))):
        epochs = "" if name == "epoch" else f"{updates / plan.epoch_updates:.3g} epochs"
        rows += [
            (name, f"{updates:,.0f} updates", epochs),
            ("  by operations", seconds_text(updates * plan.flops_seconds), "lower bound"),
            ("  by memory access", seconds_text(updates * plan.access_seconds), "estimate"),
        ]
    return rows


def _memory_rows(plan: ScalePlan) -> list[Row]:
    total = plan.weight_bytes + plan.activation_bytes
    rows = [
        ("weights and optimizer", bytes_text(plan.weight_bytes), "on each chip, with gradients"),
        ("activations", bytes_text(plan.activation_bytes), "on each chip; estimate"),
    ]
    if plan.chip_bytes:
        verdict = "fits" if total <= plan.chip_bytes else "does not fit: use smaller batches"
        share = f"{total / plan.chip_bytes:.0%} used; {verdict}"
        rows.append(("memory of a chip", bytes_text(plan.chip_bytes), share))
    return rows


def _host_rows(plan: ScalePlan, experiment: Experiment) -> list[Row]:
    evaluation = experiment.config.trainer.evaluation
    rows = [
        (
            "reading on a host",
            f"{bytes_text(plan.input_bytes)}/s",
            f"{plan.random_reads:,.0f} pairs/s, a page of {PAGE:,} B each unless cached",
        ),
        ("gathering on a host", f"{plan.input_cores:.2g} cores", "measured CPU time"),
        (
            "drawing an update",
            seconds_text(plan.draw_seconds),
            f"{plan.draw_seconds / plan.update_seconds:.2%} of its time; measured, one core",
        ),
        (
            "validation",
            seconds_text(plan.validation_seconds),
            f"{plan.validation_sentences:,} sentences, {plan.validation_core_seconds:,.0f} core "
            f"seconds ({evaluation.compute_type}) on one host",
        ),
    ]
    if evaluation.interval:
        waits = f"scores after {evaluation.lag:,} more" if evaluation.lag else "training waits"
        between = seconds_text(evaluation.interval * plan.update_seconds)
        rows.append(("  every", between, f"{evaluation.interval:,} updates; {waits}"))
    return rows


def bytes_text(size: float) -> str:
    """Returns a number of bytes as text, such as `1.2 TB`."""
    for unit, factor in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} B"


def seconds_text(seconds: float) -> str:
    """Returns a time as text, such as `12 ms` or `3.4 days`."""
    units = (("days", 86400), ("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3))
    for unit, factor in units:
        if seconds >= 2 * factor or (unit == "s" and seconds >= 1):
            shown = seconds / factor
            return f"{shown:,.0f} {unit}" if shown >= 100 else f"{shown:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs" if math.isfinite(seconds) else "unknown"
