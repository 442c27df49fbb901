"""A proposal as tables, as JSON, and as a configuration."""

import copy
from typing import Any

import yaml

from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.proposal.fitting import LOG_LINEAR
from keras_mtl.proposal.objective import MEAN
from keras_mtl.proposal.proposer import INTERVAL, Proposal
from keras_mtl.proposal.swarm_design import swarm_size


def weights_table(proposal: Proposal) -> tuple[list[str], list[list[str]]]:
    """Returns the header and rows of a table of the weights."""
    low, high = proposal.interval()
    expected = proposal.laws.loss(proposal.weights)
    natural = proposal.laws.loss(proposal.natural)
    baselines = proposal.objective.baselines
    header = ["task", "pairs", "natural", "weight", "90 % of samples", "passes", "loss", "natural"]
    rows = []
    for i, task in enumerate(proposal.found.tasks):
        spread = f"{low[i]:.3f} to {high[i]:.3f}" if len(proposal.samples) else "-"
        rows.append(
            [
                task,
                f"{proposal.space.sizes[i]:,.0f}",
                f"{proposal.natural[i]:.4f}",
                f"{proposal.weights[i]:.4f}",
                spread,
                f"{proposal.passes[i]:.1f}",
                f"{expected[i]:.3f}",
                f"{natural[i]:.3f}",
            ]
        )
        if baselines is not None:
            rows[-1].append(f"{baselines[i] / expected[i]:.3f}")
    if baselines is not None:
        header.append("baseline / loss")
    return header, rows


def fit_table(proposal: Proposal) -> tuple[list[str], list[list[str]]]:
    """Returns the header and rows of a table of how well the laws predict left-out runs."""
    rows = []
    for fit in proposal.fits:
        others = {c.kind: f"{c.error:.4f}" for c in fit.candidates}
        rows.append(
            [
                fit.task,
                fit.chosen.kind,
                others.get("log_linear", "-"),
                others.get("double_power", "-"),
                f"{fit.constant_error:.4f}",
                f"{max(0.0, fit.explained):.0%}",
            ]
        )
    return ["task", "law", "log_linear", "double_power", "constant", "predicted"], rows


def notes(proposal: Proposal) -> list[str]:
    """Returns what a reader of the proposal must know, one sentence or two in each."""
    found, space, weights = proposal.found, proposal.space, proposal.weights
    lines = []
    gains = proposal.gains()
    name = "mean loss" if proposal.objective.kind == MEAN else "largest loss / baseline"
    text = (
        f"predicted {name}: {proposal.value(weights):.4f}, and "
        f"{proposal.value(proposal.natural):.4f} with the natural distribution"
    )
    if len(gains):
        text += f"; the proposal is better in {(gains > 0).mean():.0%} of {len(gains)} samples"
    lines.append(text)
    tried = found.weights[:, : len(weights)]
    outside = [
        task
        for task, weight, least, most in zip(
            found.tasks, weights, tried.min(axis=0), tried.max(axis=0), strict=True
        )
        if not least - 1e-6 <= weight <= most + 1e-6
    ]
    if outside:
        lines.append(
            f"warning: no proxy run had a weight like that of {', '.join(outside)}: the laws "
            "extrapolate. Add proxy runs, or lower --max_passes"
        )
    capped = [
        task
        for task, weight, high in zip(found.tasks, weights, space.high, strict=True)
        if weight >= min(1.0, high) * (1 - 1e-3)
    ]
    if capped:
        lines.append(f"at the limit of {space.max_passes:g} passes: {', '.join(capped)}")
    coefficients = found.weights.shape[1] + 1
    unsure = [
        fit.task
        for number, fit in enumerate(proposal.fits)
        if fit.chosen.kind == LOG_LINEAR and found.of_task(number).sum() < 2 * coefficients
    ]
    if unsure:
        lines.append(
            f"warning: {len(found.runs)} proxy runs are few for the {coefficients} coefficients of "
            f"the log-linear law ({', '.join(unsure)}): it may confuse tasks. Give --proxies "
            f"{swarm_size(coefficients - 1)}, or --law double_power"
        )
    for fit in proposal.poor():
        lines.append(
            f"warning: no law predicts the loss of {fit.task}: the error of left-out runs is "
            f"{fit.chosen.error:.4f}, and that of a constant {fit.constant_error:.4f}"
        )
    return lines


def with_weights(config: ExperimentConfig, proposal: Proposal) -> ExperimentConfig:
    """Returns a configuration with the proposed weights as its schedule."""
    config = copy.deepcopy(config)
    config.trainer.schedule.name = "constant"
    config.trainer.schedule.parameters = {"weights": _by_task(proposal, proposal.weights)}
    return config


def yaml_lines(proposal: Proposal) -> str:
    """Returns the lines of YAML that set the proposed weights."""
    weights = yaml.safe_dump(
        _by_task(proposal, proposal.weights),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
    )
    indented = "".join(f"        {line}\n" for line in weights.splitlines())
    return f"trainer:\n  schedule:\n    name: constant\n    parameters:\n      weights:\n{indented}"


def as_data(proposal: Proposal) -> dict[str, Any]:
    """Returns the proposal and everything it is based on, for JSON."""
    objective, found = proposal.objective, proposal.found
    low, high = proposal.interval()
    expected, natural = (proposal.laws.loss(w) for w in (proposal.weights, proposal.natural))
    gains = proposal.gains()
    tasks = []
    for i, (task, fit) in enumerate(zip(found.tasks, proposal.fits, strict=True)):
        tasks.append(
            {
                "name": task,
                "pairs": int(proposal.space.sizes[i]),
                "weight": float(proposal.weights[i]),
                "interval": [float(low[i]), float(high[i])] if len(gains) else None,
                "natural": float(proposal.natural[i]),
                "largest": float(proposal.space.high[i]),
                "passes": float(proposal.passes[i]),
                "loss": float(expected[i]),
                "natural_loss": float(natural[i]),
                "importance": float(objective.importance[i]),
                "baseline": None if objective.baselines is None else float(objective.baselines[i]),
                "law": fit.chosen.kind,
                "errors": {c.kind: c.error for c in fit.candidates}
                | {"constant": fit.constant_error},
            }
        )
    return {
        "objective": objective.kind,
        "least_ratio": objective.least_ratio,
        "pull": objective.pull,
        "max_passes": proposal.space.max_passes,
        "value": proposal.value(proposal.weights),
        "natural_value": proposal.value(proposal.natural),
        "samples": len(gains),
        "better_in": float((gains > 0).mean()) if len(gains) else None,
        "quantiles": list(INTERVAL),
        "tasks": tasks,
        "former_tasks": list(found.former),
        "runs": [
            {
                "name": name,
                "weights": dict(zip((*found.tasks, *found.former), map(float, row), strict=True)),
                "losses": {
                    task: float(loss)
                    for task, loss in zip(found.tasks, losses, strict=True)
                    if loss == loss
                },
            }
            for name, row, losses in zip(found.runs, found.weights, found.losses, strict=True)
        ],
        "notes": notes(proposal),
    }


def _by_task(proposal: Proposal, values: Any) -> dict[str, float]:
    return dict(zip(proposal.found.tasks, map(float, values), strict=True))
