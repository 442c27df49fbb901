"""Draws the pictures of docs/reference/schedules.md from simulations; takes seconds.

    python benchmarks/schedule_pictures.py [--output docs/images]

Four tasks of 200,000 to 400 examples, 20,000 batches of 64. The learning curves are the default
model of `keras-mtl simulate`.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from keras_mtl.figures import charts
from keras_mtl.schedules import TaskInfo, create
from keras_mtl.simulation import PlaySettings, PowerLawCurves, simulate

SIZES = {"A 200k": 200_000, "B 30k": 30_000, "C 4k": 4000, "D 400": 400}
A, B, C, D = SIZES
STEPS, ROWS = 20_000, 64
SEEN = STEPS * ROWS
EVEN, MAIN = dict.fromkeys(SIZES, 1.0), {A: 1.0, B: 0.1, C: 0.1, D: 0.1}
REFERENCES = {A: 2.6, B: 3.0, C: 5.0, D: 6.6}

# Title: schedule, parameters, and settings of the simulation that differ from the defaults.
FAMILIES: dict[str, dict[str, tuple[Any, ...]]] = {
    "fixed": {
        "uniform": ("uniform", {}),
        "proportional": ("proportional", {}),
        "temperature, T = 5": ("temperature", {"temperature": 5}),
        "temperature, T = 2": ("temperature", {"temperature": 2}),
        "constant, 4 : 2 : 1 : 1": ("constant", {"weights": [4, 2, 1, 1]}),
        "unimax, 20 epochs": ("unimax", {"budget": SEEN, "epochs": 20}),
    },
    "over_time": {
        "exponential, α = 2e-4": ("exponential", {"alpha": 2e-4, "p0": EVEN, "p1": MAIN}),
        "sigmoid, α = 2e-4": ("sigmoid", {"alpha": 2e-4, "p0": EVEN, "p1": MAIN}),
        "annealed, 10 epochs": ("annealed", {"steps_per_epoch": 2000, "epochs": 10}),
        "dynamic_temperature, 5 epochs": ("dynamic_temperature", {"steps_per_epoch": 2000}),
        "cooldown at 12,000": ("cooldown", {"switch_step": 12_000}),
        "round_robin": ("round_robin", {}),
        "sequential, floor = 0.05": (
            "sequential",
            {
                "stages": [{"task": name, "steps": 5000} for name in (A, B, C)] + [{"task": D}],
                "floor": 0.05,
            },
        ),
        "piecewise: only A, then temperature": (
            "piecewise",
            {
                "stages": [
                    {"name": "constant", "parameters": {"weights": [1, 0, 0, 0]}, "steps": 8000},
                    {"name": "temperature", "parameters": {"temperature": 3}},
                ]
            },
        ),
    },
    "adaptive": {
        "inverse_ratio": ("inverse_ratio", {}),
        "inverse_ratio, α = 5": ("inverse_ratio", {"alpha": 5}),
        "inverse_ratio, α = 5, noisy scores": ("inverse_ratio", {"alpha": 5}, {"noise": 0.03}),
        "the same, ema = 0.7, max_change = 0.02": (
            "inverse_ratio",
            {"alpha": 5, "ema": 0.7, "max_change": 0.02},
            {"noise": 0.03},
        ),
        "simple_adaptive": ("simple_adaptive", {}),
        "simple_adaptive, ε = 0.01, validated rarely": (
            "simple_adaptive",
            {"epsilon": 0.01},
            {"interval": 2000},
        ),
        "bandit, reward: loss": ("bandit", {"reward": "loss"}),
        "excess_loss, η = 0.1": ("excess_loss", {"reference_losses": REFERENCES, "eta": 0.1}),
        "ado, prior: temperature": ("ado", {"prior": "temperature"}),
        "dro_mt, prior: temperature": ("dro_mt", {"prior": "temperature", "interval": 1000}),
    },
    "implicit": {
        "implicit, prior: temperature": ("implicit", {"prior": "temperature"}),
        "the same, γ = 0.5": ("implicit", {"prior": "temperature", "gamma": 0.5}),
        "the same, β = 2": ("implicit", {"prior": "temperature", "beta": 2.0}),
    },
}


def play(name, parameters, settings=None):
    rows = np.full(len(SIZES), float(ROWS))
    tasks = [TaskInfo(task, size) for task, size in SIZES.items()]
    curves = PowerLawCurves(tasks, rows, STEPS)
    settings = PlaySettings(**{"steps": STEPS, "interval": 500, **(settings or {})})
    return simulate(create(name, curves.tasks, **parameters), curves, rows, settings)


def draw(family):
    """A column for each schedule: probabilities or factors above, score / baseline below."""
    played = {title: play(*spec) for title, spec in FAMILIES[family].items()}
    columns = min(3, len(played))
    blocks = -(-len(played) // columns)
    figure = charts.new_figure(3.7 * columns, 3.6 * blocks)
    grid = figure.subplots(
        2 * blocks,
        columns,
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [3, 2] * blocks},
    )
    best = max(result.ratios.max() for result in played.values())
    for axes in grid.ravel():
        axes.set_axis_off()
    for place, (title, result) in enumerate(played.items()):
        row, column = 2 * (place // columns), place % columns
        top, bottom = grid[row, column], grid[row + 1, column]
        given = result.scales if family == "implicit" else result.probabilities
        for axes, values, most in ((top, given, given.max()), (bottom, result.ratios, best)):
            axes.set_axis_on()
            line_at = 1.0 if axes is bottom or family == "implicit" else None
            charts.draw_tasks(axes, list(SIZES), result.steps, values, most, line_at=line_at)
        charts.title(top, title)
        if column == 0:
            top.set_ylabel("factor" if family == "implicit" else "probability", fontsize=8)
            bottom.set_ylabel("score / baseline", fontsize=8)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--output", default="docs/images")
    args = parser.parse_args()
    for family in FAMILIES:
        print(charts.save_png(draw(family), Path(args.output) / f"schedules_{family}.png", dpi=90))


if __name__ == "__main__":
    main()
