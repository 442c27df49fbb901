"""Measures what each schedule costs in a training step, apart from measurements of the model.

    python benchmarks/schedule_costs.py                 # 100 tasks, steps of 100 ms
    python benchmarks/schedule_costs.py --tasks 1000 --step-ms 35

Each schedule draws a task at every step. An adaptive one also gets scores, losses or measurements,
which are random numbers, and learns from them when it would in training. Times are CPU seconds of
this process, so they mean one core even on a busy machine. `benchmarks/measuring.py` measures what
schedules that measure the model do with it.

Measured on one core of an Intel Xeon, on a busy machine, with 100 tasks and steps of 100 ms: a draw
takes 0.016 to 0.032 % of a step. With updates, ado takes 0.070 % (a fit of all loss curves takes
63 ms), aioli 0.044 %, and all others at most 0.032 %.
"""

import argparse
import time
from typing import Any

import numpy as np

from keras_mtl import schedules
from keras_mtl.schedules import TaskInfo

# Number of draws that are timed; the probabilities of one step have the same cost as of any other.
_DRAWS = 500


def parameters_of(name: str, infos: list[TaskInfo]) -> dict[str, Any]:
    """Returns the parameters that a schedule needs, and intervals as they are usual."""
    ones = [1.0] * len(infos)
    trained = len(infos) * 1000
    parameters: dict[str, dict[str, Any]] = {
        "constant": {"weights": ones},
        "unimax": {"budget": trained},
        "exponential": {"alpha": 1e-4, "p0": ones, "p1": ones},
        "sigmoid": {"alpha": 1e-4, "p0": ones, "p1": ones},
        "annealed": {"steps_per_epoch": 1000, "epochs": 5},
        "dynamic_temperature": {"steps_per_epoch": 1000},
        "cooldown": {"switch_step": 5000},
        "sequential": {"stages": [{"task": info.name, "steps": 10} for info in infos]},
        "piecewise": {
            "stages": [{"name": "temperature", "steps": 5000}, {"name": "inverse_ratio"}]
        },
        "bandit": {"interval": 100},
        "excess_loss": {"interval": 100, "reference_losses": ones},
        "dro_mt": {"interval": 100},
        "pike": {"zeta1": 0.1, "zeta2": 0.1},
        # With the default of 4, a round of 100 tasks would have 1,600 steps of trials.
        "aioli": {"lp_rounds": 1},
    }
    return parameters.get(name, {})


def give(adaptive: schedules.AdaptiveState, step: int, since: int, values: np.ndarray) -> None:
    """Gives a schedule what it learns from, and updates it.

    Args:
        adaptive: the schedule and its state.
        step: number of steps so far.
        since: number of steps since the last update.
        values: random numbers, float64[N].
    """
    schedule = adaptive.schedule
    if schedule.uses_losses:
        probabilities = adaptive.probabilities(step - 1)
        losses = 1 + values + 5 * (step / 1000) ** -0.3
        adaptive.observe_losses(step, losses, probabilities, since * probabilities)
    if schedule.uses_scores:
        adaptive.enter_scores(step, dict(zip(adaptive.task_names, values.tolist(), strict=True)))
    if schedule.measures:
        names = (schedule.measures.quantity, "gradient_square", "gradient_variance")
        adaptive.book.measure(dict.fromkeys(names, values), step)
    adaptive.update(step)
    adaptive.forget_before(step)


def seconds_of_updates(
    adaptive: schedules.AdaptiveState, steps: int, interval: int
) -> tuple[float, float, int]:
    """Returns the CPU seconds of all updates and of the slowest one, and their number."""
    schedule, rng = adaptive.schedule, np.random.default_rng(0)
    spent = slowest = 0.0
    number = last = 0
    while True:
        step = schedule.next_update(last) if schedule.interval else last + interval
        assert step is not None  # It has an interval.
        if step > steps:
            return spent, slowest, number
        values = rng.uniform(0.01, 0.5, len(adaptive.task_names))
        start = time.process_time()
        give(adaptive, step, step - last, values)
        taken = time.process_time() - start
        spent, slowest = spent + taken, max(slowest, taken)
        number, last = number + 1, step


def costs(infos: list[TaskInfo], steps: int, interval: int, step_ms: float) -> dict[str, float]:
    """Prints the cost of every schedule, of a training of `steps` steps.

    Args:
        infos: the tasks, with baselines.
        steps: number of training steps.
        interval: number of steps between validations, for schedules without an interval.
        step_ms: time of a training step in ms.

    Returns:
        The CPU time as a share of the time of the steps, by schedule.
    """
    shares = {}
    for name in schedules.available():
        schedule = schedules.create(name, infos, **parameters_of(name, infos))
        adaptive = schedules.AdaptiveState(schedule)
        spent = slowest = 0.0
        number = 0
        if schedule.adaptive:
            spent, slowest, number = seconds_of_updates(adaptive, steps, interval)
        start = time.process_time()
        for step in range(steps, steps + _DRAWS):
            schedules.sample(1, step, adaptive.probabilities(step))
        draw = (time.process_time() - start) / _DRAWS
        share = shares[name] = (draw + spent / steps) * 1e3 / step_ms
        updates = f"; {number:,} updates, the slowest {slowest * 1e3:.1f} ms" if number else ""
        print(
            f"{name:20} {(draw + spent / steps) * 1e6:7.1f} us per step, {share:.3%} of a step of "
            f"{step_ms:g} ms; a draw {draw * 1e6:.1f} us{updates}"
        )
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10_000, help="number of steps of the training")
    parser.add_argument("--interval", type=int, default=100, help="steps between validations")
    parser.add_argument("--step-ms", type=float, default=100.0, help="time of a step in ms")
    options = parser.parse_args()
    sizes = np.geomspace(100_000, 1000, options.tasks).astype(int).tolist()
    infos = [TaskInfo(f"task-{i}", size, baseline=0.5) for i, size in enumerate(sizes)]
    costs(infos, options.steps, options.interval, options.step_ms)


if __name__ == "__main__":
    main()
