"""The schedules and curves of an experiment's simulation, and notes on its numbers."""

import os
from collections.abc import Mapping, Sequence

from keras_mtl.configuration.reading import load_yaml
from keras_mtl.errors import ConfigError
from keras_mtl.evaluation.task_metrics import TaskMetrics
from keras_mtl.metrics import schedule_higher_is_better
from keras_mtl.simulation.comparison import (
    MOST_TASKS_IN_TABLE,
    Played,
    ScheduleSpec,
    default_label,
    parse_schedule,
    schedule_of,
)
from keras_mtl.simulation.curves import Curves, CurveSettings, PowerLawCurves
from keras_mtl.simulation.experiment import Experiment, recorded_events
from keras_mtl.simulation.recorded import RecordedCurves

_OWN = "config"  # Label of the experiment's own schedule.


def schedules_to_play(
    experiment: Experiment, texts: Sequence[str], file: str | os.PathLike[str] | None = None
) -> list[ScheduleSpec]:
    """Reads the schedules to play.

    Args:
        experiment: the experiment; its own schedule has the label `config`.
        texts: schedules in the form that `parse_schedule` reads.
        file: YAML file with a list of schedules in the form that `schedule_of` reads.

    Returns:
        The schedules; only the experiment's own if none is given.

    Raises:
        ConfigError: a schedule cannot be read.
    """
    name, parameters = experiment.schedule
    own = ScheduleSpec(default_label(name, parameters), name, parameters)
    specs = [own if text.strip() == _OWN else parse_schedule(text) for text in texts]
    if file:
        entries = load_yaml(file)
        if not isinstance(entries, list) or not entries:
            raise ConfigError(f"{file}: expected a list of schedules")
        specs += [own if entry == _OWN else schedule_of(entry) for entry in entries]
    return specs or [own]


def make_curves(
    experiment: Experiment,
    parameters: Mapping[str, float],
    baseline_steps: int,
    recorded: str | os.PathLike[str] | None = None,
) -> Curves:
    """Creates the learning curves of an experiment's tasks.

    Args:
        experiment: the experiment.
        parameters: fields of `CurveSettings`; `memory` is in updates.
        baseline_steps: number of updates in which a model trained on only one task reaches its
            baseline.
        recorded: directory of a run whose scores are used as curves; None means power laws.

    Raises:
        ConfigError: a parameter is out of range.
        DataError: the recorded run has no scores of the tasks.
    """
    batches = experiment.batches_per_step
    given = dict(parameters)
    if "memory" in given:
        given["memory"] *= batches
    settings = CurveSettings(**given)
    if recorded:
        rows = experiment.rows**0 if experiment.mixed else experiment.rows
        metrics = TaskMetrics.of(experiment.config)
        own = metrics.by_task if metrics.differ else None
        return RecordedCurves(experiment.tasks, recorded_events(recorded), rows, settings, own)
    return PowerLawCurves(
        experiment.tasks,
        experiment.rows,
        baseline_steps * batches,
        settings,
        schedule_higher_is_better(experiment.metric),
    )


def notes_on(
    experiment: Experiment,
    curves: Curves,
    played: Sequence[Played],
    recorded: str | os.PathLike[str] | None = None,
) -> list[str]:
    """Returns notes on how the numbers were computed, one sentence each."""
    notes = []
    if recorded:
        notes.append(f"curves: recorded in {recorded}")
        for item in played:
            beyond = [
                task.name
                for task, held in zip(curves.tasks, item.simulation.held, strict=True)
                if held
            ]
            if beyond:
                shown = ", ".join(beyond[:5]) + (" ..." if len(beyond) > 5 else "")
                notes.append(
                    f"{item.spec.label}: learns more of {shown} than was recorded, "
                    "so its score stays "
                    "at the last one"
                )
    else:
        notes.append(
            "curves: power laws, which are a model and not a measurement; compare shapes, not "
            "decimals"
        )
    if not experiment.rows_known:
        notes.append(
            f"examples of a batch: {experiment.rows.mean():.0f}, for sentences half as long as the "
            "longest (prepare the data and give --model_dir to know)"
        )
    if len(curves.tasks) > MOST_TASKS_IN_TABLE:
        count = sum(task.baseline is None for task in experiment.tasks)
        if count:
            # No table shows for which tasks.
            how = "the best recorded scores" if recorded else "modeled, not measured"
            notes.append(f"baselines of {count:,} tasks are {how}, because none are given")
    return notes
