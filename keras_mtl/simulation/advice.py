"""Advice on the schedule of an experiment, from the sizes of its tasks and the planned steps.

The schedule is played on modeled learning curves, as `keras-mtl simulate` does. Here only the
passes over the data matter. They are exact expectations for a schedule that does not adapt. The
limits of what repeats are worth are published measurements.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_mtl.schedules import TaskInfo, create
from keras_mtl.simulation.comparison import ScheduleSpec, play_all
from keras_mtl.simulation.experiment import Experiment
from keras_mtl.simulation.player import PlaySettings, Simulation
from keras_mtl.simulation.setup import make_curves

# Muennighoff et al. 2023, arXiv 2305.16264: up to 4 passes, repeats are almost as good as new text;
# their value falls to 1/e after about 15 repeats; from 40 passes on, they add nothing.
FRESH_PASSES, WORN_PASSES, USELESS_PASSES = 4, 16, 40
# The temperatures that publications use; 1 is proportional.
_TEMPERATURES = (5.0, 3.0, 2.0, 1.5, 1.0)
_MOST_NAMED = 6
_MOST_LISTED = 20
PAGE = "docs/explanation/choosing_a_schedule.md"
EVIDENCE_PAGE = "docs/explanation/evidence.md"
# Schedules that already move towards the small tasks, or whose stages the user has chosen.
_CHANGING = ("annealed", "dynamic_temperature", "piecewise", "sequential")
# The measured gain of late oversampling is that of sizes of 100 : 1.
_UNEQUAL = 10


@dataclasses.dataclass(frozen=True)
class Exposure:
    """How often a schedule reads the data of the tasks.

    Attributes:
        tasks: the N tasks.
        passes: float64[N], expected passes over the data of each task.
        worn_at: float64[N], step from which repeats are worth little (`WORN_PASSES`); infinite if
            the task does not get there.
    """

    tasks: tuple[TaskInfo, ...]
    passes: np.ndarray
    worn_at: np.ndarray

    def above(self, passes: float) -> list[str]:
        """Returns the tasks that are read more often, the most often first."""
        order = np.argsort(-self.passes, kind="stable")
        return [self.tasks[i].name for i in order if self.passes[i] > passes]


def exposure(experiment: Experiment) -> Exposure:
    """Returns how often the schedule of an experiment reads each task.

    Raises:
        ConfigError: the schedule cannot be made.
    """
    name, parameters = experiment.schedule
    batches = experiment.batches_per_step
    curves = make_curves(experiment, {}, max(1, experiment.steps))
    settings = PlaySettings(max(1, experiment.steps) * batches, experiment.interval * batches)
    spec = ScheduleSpec(name, name, parameters)
    (played,) = play_all([spec], curves, experiment.rows, settings, experiment.limits)
    simulation = played.simulation
    return Exposure(
        experiment.tasks,
        simulation.passes,
        np.array([_step_of(simulation, experiment, i) for i in range(len(experiment.tasks))]),
    )


def suggested_temperature(experiment: Experiment) -> float | None:
    """Returns the largest usual temperature that reads no task too often to learn from it.

    Returns:
        The temperature; None if every temperature repeats a task too often.
    """
    rows, steps = experiment.rows, experiment.steps * experiment.batches_per_step
    sizes = np.array([max(1, task.size) for task in experiment.tasks])
    for temperature in _TEMPERATURES:
        schedule = create("temperature", experiment.tasks, temperature=temperature)
        given = schedule.probabilities(0, schedule.init())
        if (steps * given * rows / sizes).max() <= USELESS_PASSES:
            return temperature
    return None


def exposure_table(experiment: Experiment, found: Exposure) -> tuple[list[str], list[list[str]]]:
    """Returns the header and rows of a table; of many tasks, those that are repeated most."""
    order: Sequence[int] = range(len(found.tasks))
    if len(order) > _MOST_LISTED:
        order = np.argsort(-found.passes, kind="stable")[:_MOST_LISTED].tolist()
    rows = [
        [
            found.tasks[i].name,
            f"{found.tasks[i].size:,}",
            f"{found.passes[i]:.1f}",
            f"{found.worn_at[i]:,.0f}" if np.isfinite(found.worn_at[i]) else "-",
        ]
        for i in order
    ]
    return ["task", "pairs", "passes", f"{WORN_PASSES} passes at step"], rows


def advice(experiment: Experiment, found: Exposure) -> list[str]:
    """Returns what the evidence suggests, one sentence or two in each line."""
    temperature = suggested_temperature(experiment)
    lines = []
    useless, worn = found.above(USELESS_PASSES), found.above(WORN_PASSES)
    if useless:
        lines.append(
            f"{_named(useless)} will be read more than {USELESS_PASSES} times, and further repeats "
            "teach little. Watch the dev scores, and compare a lower temperature. A limit of "
            "passes (max_epochs) ends a task, which the model then forgets"
        )
    elif worn:
        lines.append(
            f"{_named(worn)} will be read more than {WORN_PASSES} times, and further repeats are "
            "worth little. Watch the dev scores, or set trainer.schedule.overfit_patience"
        )
    if temperature is None:
        lines.append(
            f"even proportional sampling reads a task more than {USELESS_PASSES} times: train for "
            "fewer steps, or add data"
        )
    elif temperature == 1:
        lines.append(
            "every temperature above 1 reads a task more than "
            f"{USELESS_PASSES} times: compare with proportional, and add a limit to the others"
        )
    else:
        lines.append(
            f"a tuned temperature is the schedule to beat: try 1 to {temperature:g}, which read no "
            f"task more than {USELESS_PASSES} times, and compare dev scores"
        )
    sizes = [max(1, task.size) for task in experiment.tasks]
    unequal = max(sizes) >= _UNEQUAL * min(sizes)
    if unequal and temperature is not None and experiment.schedule[0] not in _CHANGING:
        lines.append(
            "the tasks are very unequal: also compare a piecewise schedule with a higher "
            f"temperature, such as 5, in the last quarter of the training ({EVIDENCE_PAGE})"
        )
    return lines


def _step_of(simulation: Simulation, experiment: Experiment, task: int) -> float:
    """Returns the update at which a task has been passed over `WORN_PASSES` times."""
    size = max(1, experiment.tasks[task].size)
    passes = simulation.batches[:, task] * experiment.rows[task] / size
    if passes[-1] < WORN_PASSES:
        return np.inf
    step = float(np.interp(WORN_PASSES, passes, simulation.steps))
    return step / experiment.batches_per_step


def _named(tasks: Sequence[str]) -> str:
    if len(tasks) <= _MOST_NAMED:
        return ", ".join(tasks)
    return f"{', '.join(tasks[:_MOST_NAMED])} and {len(tasks) - _MOST_NAMED} more tasks"
