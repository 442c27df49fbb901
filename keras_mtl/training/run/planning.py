"""The plan of a training, checked once, before data or TensorFlow is loaded.

The names and parameters of balancing methods and of sub-layers from plug-ins are checked later,
because their classes require TensorFlow.
"""

import contextlib
import dataclasses

from keras_mtl.configuration import baselines, learning_rates, schema
from keras_mtl.configuration.checks import check_values
from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.model_sizes import resolved
from keras_mtl.configuration.optimizer_sections import is_adam
from keras_mtl.data.reader_checks import check_readers
from keras_mtl.engine import NativeError, library
from keras_mtl.errors import ConfigError, nearest
from keras_mtl.schedules import PlannedSchedule
from keras_mtl.schedules import plan as checked_schedule
from keras_mtl.schedules.configured_limits import configured_limits
from keras_mtl.training.run.metric_checks import check_metrics
from keras_mtl.training.run.modes import MODES
from keras_mtl.training.step.update_plan import UpdatePlan


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """A checked configuration and the decisions that follow from it.

    Attributes:
        config: the configuration.
        mode: one of `MODES`.
        validated: names of the validated tasks, in the order of the tasks.
        schedule: the schedule, which is created when the sizes of the tasks are known.
        updates: the plan of an update.
        notes: lines for the user.
    """

    config: schema.ExperimentConfig
    mode: str
    validated: tuple[str, ...]
    schedule: PlannedSchedule
    updates: UpdatePlan
    notes: tuple[str, ...] = ()


def plan_training(draft: Draft, mode: str = MODES[-1]) -> TrainingPlan:
    """Checks a configuration for training and makes the plan.

    Args:
        draft: the configuration, with the problems found while reading it.
        mode: `train`, without validation; `eval`; or `train_and_eval`.

    Raises:
        ConfigError: the mode is unknown, or the configuration has problems. The message has a line
            for each problem, with file and line.
    """
    if mode not in MODES:
        raise ConfigError(f"--mode is {mode!r}{nearest(mode, MODES)}")
    check_values(draft)
    check_readers(draft)
    schedule, notes = plan_schedule(draft)
    if schedule is not None:
        _check_scores(draft, schedule, mode)
        _check_measures(draft, schedule)
    if mode != "train":
        _check_dev_pairs(draft)
        check_metrics(draft, schedule.baselines if schedule else None)
    if mode == "train_and_eval":
        check_lag(draft)
    updates = plan_updates(draft, schedule)
    config = draft.finish()
    # `finish` raises an error if one of them is None.
    assert schedule is not None
    assert updates is not None
    notes = (*notes, *dubious_notes(config))
    return TrainingPlan(config, mode, validated_tasks(config), schedule, updates, notes)


def check_preparing(draft: Draft) -> None:
    """Adds the problems of a configuration for preparing data to a draft.

    Training also requires a schedule and its baselines, which may not exist yet.
    """
    check_values(draft)
    check_readers(draft)


def plan_schedule(draft: Draft) -> tuple[PlannedSchedule | None, tuple[str, ...]]:
    """Checks `trainer.schedule` and reads the baselines.

    Returns:
        The schedule, or None if it has a problem; and lines for the user.
    """
    settings, pairs = draft.config.trainer.schedule, draft.config.task.pairs
    try:
        known, notes = baselines.of_tasks(pairs, settings.baselines_file)
    except ConfigError as error:
        draft.error("trainer.schedule.baselines_file", error)
        known, notes = dict.fromkeys(map(schema.task_name, pairs)), ()
    if not settings.name or not known:  # `check_values` reports this.
        return None, notes
    accumulation = draft.config.trainer.optimizer.gradient_accumulation_steps
    own = settings.max_epochs, settings.overfit_patience
    limits = configured_limits(pairs, *own, batches_per_step=accumulation)
    in_steps = configured_limits(pairs, *own, batches_per_step=1)
    if len(known) < len(pairs):  # Two tasks have the same name, which `check_values` reports.
        limits = in_steps = None
    if in_steps is not None:
        try:
            in_steps.check(list(known), draft.config.trainer.train_steps)
        except ConfigError as error:  # `check_values` reports single fields, too.
            draft.error("task.pairs", error)
            return None, notes
    try:
        schedule = checked_schedule(settings.name, known, settings.parameters, limits)
    except ConfigError as error:
        draft.component_error("trainer.schedule", error)
        return None, notes
    if in_steps is not None and schedule.never_drawn:
        try:
            in_steps.check(list(known), draft.config.trainer.train_steps, schedule.never_drawn)
        except ConfigError as error:
            draft.error("task.pairs", error)
            return None, notes
    return schedule, notes


def dubious_notes(config: schema.ExperimentConfig) -> list[str]:
    """Returns a note for each task that the run never trains, and for a high learning rate."""
    steps, optimizer = config.trainer.train_steps, config.trainer.optimizer
    untrained = [
        f"task {schema.task_name(pair)!r} is never trained: its introduce_at = {pair.introduce_at} "
        f"is not below trainer.train_steps = {steps}"
        for pair in config.task.pairs
        if pair.introduce_at >= steps
    ]
    found = []
    # `inspect` also asks for the notes of an invalid configuration.
    with contextlib.suppress(ConfigError, TypeError, ValueError, ZeroDivisionError):
        highest = learning_rates.peak(
            optimizer.learning_rate_schedule,
            optimizer.learning_rate,
            optimizer.warmup_steps,
            resolved(config.task.model)["hidden_dim"],
        )
        found = learning_rates.notes(optimizer.name, highest)
    return [*untrained, *found]


def plan_updates(draft: Draft, schedule: PlannedSchedule | None) -> UpdatePlan | None:
    """Plans the updates.

    Args:
        draft: the configuration.
        schedule: its schedule.

    Returns:
        The plan, or None if there is no schedule or a field on which the plan depends is invalid.
    """
    plan = None
    if schedule is not None:
        with contextlib.suppress(ConfigError):  # `check_values` reports this.
            config = draft.config
            plan = UpdatePlan.of(config.trainer, config.task.data.granularity, schedule)
    if plan is not None:
        for path, text in plan.problems():
            draft.problem(path, text)
        if plan.of_one_task and not is_adam(draft.config.trainer.optimizer):
            draft.problem(
                "trainer.optimizer.name",
                f"= {draft.config.trainer.optimizer.name!r}: factors on the learning rate need "
                "moments that know the tasks, which only adam has; set it to adam, or "
                "trainer.schedule.application to gradient",
            )
    _check_balancing(draft, plan)
    return plan


def check_lag(draft: Draft) -> None:
    """Adds a problem if validation is asynchronous and the engine is not available."""
    lag = draft.config.trainer.evaluation.lag
    if not lag:
        return
    try:
        library.core()
    except NativeError as error:
        draft.problem(
            "trainer.evaluation.lag",
            f"= {lag} requires the engine: {error}. Alternatively, set trainer.evaluation.lag to 0",
        )


def validated_tasks(config: schema.ExperimentConfig) -> tuple[str, ...]:
    """Returns the names of the tasks that `trainer.evaluation` validates, in their order."""
    chosen = config.trainer.evaluation.tasks
    names = map(schema.task_name, config.task.pairs)
    return tuple(name for name in names if not chosen or name in chosen)


def _check_measures(draft: Draft, schedule: PlannedSchedule) -> None:
    """Checks that training can measure what the schedule needs."""
    if schedule.measures is None:
        return
    if draft.config.runtime.distribution_strategy == "tpu":
        draft.problem(
            "trainer.schedule.name",
            f"= {schedule.name!r} measures the model between steps, which does not work on a TPU. "
            "Use another schedule or another runtime.distribution_strategy",
        )
    if schedule.measures.uses_dev and draft.config.task.data.dev_fraction == 0:
        without = [
            schema.task_name(pair) for pair in draft.config.task.pairs if not pair.dev_corpora
        ]
        if without:
            draft.problem(
                "trainer.schedule.name",
                f"= {schedule.name!r} measures the model on dev pairs, but task.data.dev_fraction "
                f"is 0 and {', '.join(without)} have no dev_corpora. Give them dev_corpora, set "
                "the fraction above 0, or use another schedule",
            )


def _check_dev_pairs(draft: Draft) -> None:
    """Checks that every validated task has dev corpora or a dev fraction of its corpora."""
    if draft.config.task.data.dev_fraction > 0:
        return
    validated = validated_tasks(draft.config)
    for index, pair in enumerate(draft.config.task.pairs):
        name = schema.task_name(pair)
        if not pair.dev_corpora and name in validated:
            draft.problem(
                f"task.pairs[{index}].dev_corpora",
                f"is empty and task.data.dev_fraction is 0, so task {name!r} cannot be validated. "
                "Give it dev_corpora, set the fraction above 0, list only the other tasks in "
                "trainer.evaluation.tasks, or train with --mode train",
            )


def _check_scores(draft: Draft, schedule: PlannedSchedule, mode: str) -> None:
    """Checks that a schedule that learns from scores gets a score for every task."""
    validated = validated_tasks(draft.config)
    unscored = [name for name in schedule.baselines if name not in validated]
    if unscored and schedule.uses_scores:
        draft.problem(
            "trainer.evaluation.tasks",
            f"omits {', '.join(unscored)}, but the schedule {schedule.name!r} requires a score "
            "for every task. Add them, or use a schedule that does not learn from scores",
        )
    trainer = draft.config.trainer
    for path, patience in (
        ("trainer.stopping.patience", trainer.stopping.patience),
        ("trainer.optimizer.plateau.patience", trainer.optimizer.plateau.patience),
    ):
        if patience > 0 and mode == "train":
            draft.problem(
                path,
                f"= {patience}: --mode train does not validate. Use --mode train_and_eval, or set "
                "it to 0",
            )
    if draft.config.trainer.schedule.overfit_patience > 0 and mode == "train":
        draft.problem(
            "trainer.schedule.overfit_patience",
            "is set, but --mode train does not validate. Use --mode train_and_eval, or set it to 0",
        )
    elif schedule.uses_scores and mode == "train":
        draft.problem(
            "trainer.schedule.name",
            f"= {schedule.name!r} learns from validation scores. Use --mode train_and_eval",
        )
    elif schedule.adaptive and not schedule.interval and mode == "train":
        draft.problem(
            "trainer.schedule.name",
            f"= {schedule.name!r} learns at each validation. Use --mode train_and_eval, or set "
            "trainer.schedule.parameters.interval to the number of steps between its updates",
        )


def _check_balancing(draft: Draft, plan: UpdatePlan | None) -> None:
    """Checks `trainer.balancing` except for its method, which requires TensorFlow."""
    settings, count = draft.config.trainer.balancing, len(draft.config.task.pairs)
    if not settings.name:
        if settings.parameters:
            draft.problem(
                "trainer.balancing.name",
                "is empty, but trainer.balancing.parameters is set. Set the name to the method to "
                "which the parameters belong",
            )
        return
    if count < 2:
        draft.problem(
            "trainer.balancing.name",
            f"= {settings.name!r}, but there is only one task, so there is nothing to balance. "
            "Leave it empty",
        )
    if plan is not None and plan.of_one_task:
        draft.problem(
            "trainer.balancing.name",
            f"= {settings.name!r} cannot be combined with scaled or per-task moments or with "
            "factors on the learning rate. Set trainer.optimizer.moments: shared and "
            "trainer.schedule.application: gradient, or leave it empty",
        )
