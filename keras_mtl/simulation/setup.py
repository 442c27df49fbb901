"""What an experiment's simulation plays, and what a reader must know of its numbers."""

import os
from collections.abc import Mapping, Sequence

from keras_mtl.configuration.reading import load_yaml
from keras_mtl.errors import ConfigError
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

_OWN = "config"  # What the experiment's own schedule is called.


def schedules_to_play(
    experiment: Experiment, texts: Sequence[str], file: str | os.PathLike[str] | None = None
) -> list[ScheduleSpec]:
    """Reads the schedules to play.

    Args:
        experiment: the experiment; its own schedule is called `config`.
        texts: schedules as `parse_schedule` takes them.
        file: YAML file with a list of schedules as `schedule_of` takes them.

    Returns:
        The schedules; the experiment's own one if none is given.

    Raises:
        ConfigError: a schedule cannot be read.
    """
    name, parameters = experiment.schedule
    own = ScheduleSpec(default_label(name, parameters), name, parameters)
    specs = [own if text.strip() == _OWN else parse_schedule(text) for text in texts]
    if file:
        entries = load_yaml(file)
        if not isinstance(entries, list) or not entries:
            raise ConfigError(f"{file}: a list of schedules is expected")
        specs += [own if entry == _OWN else schedule_of(entry) for entry in entries]
    return specs or [own]


def make_curves(
    experiment: Experiment,
    parameters: Mapping[str, float],
    baseline_steps: int,
    recorded: str | os.PathLike[str] | None = None,
) -> Curves:
    """Makes the learning curves of an experiment's tasks.

    Args:
        experiment: the experiment.
        parameters: fields of `CurveSettings`; `memory` is in updates.
        baseline_steps: updates in which a model trained on only one task reaches its baseline.
        recorded: directory of a run whose scores are the curves; None takes power laws.

    Raises:
        ConfigError: a parameter is out of range.
        DataError: the run has no scores of the tasks.
    """
    batches = experiment.batches_per_step
    given = dict(parameters)
    if "memory" in given:
        given["memory"] *= batches
    settings = CurveSettings(**given)
    if recorded:
        rows = experiment.rows**0 if experiment.mixed else experiment.rows
        return RecordedCurves(experiment.tasks, recorded_events(recorded), rows, settings)
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
    """Returns what a reader must know of how the numbers were made, a sentence each."""
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
                    f"{item.spec.label}: learns more of {shown} than was recorded; the score stays "
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
            # No table shows which.
            how = "the best recorded scores" if recorded else "modeled, not measured"
            notes.append(f"baselines of {count:,} tasks are {how}: none are given")
    return notes
