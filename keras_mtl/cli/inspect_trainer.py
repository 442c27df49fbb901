"""What `keras-mtl inspect` says of training, apart from the schedule."""

from typing import TYPE_CHECKING

from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.errors import ConfigError

if TYPE_CHECKING:
    from keras_mtl.schedules import Schedule


def trainer_lines(config: ExperimentConfig) -> list[str]:
    """Returns a line for each setting that is not at its default."""
    return [
        *_learning_lines(config),
        *_limit_lines(config),
        *_validation_lines(config),
        *_keeping_lines(config),
        *_update_lines(config),
        *_shown_lines(config),
    ]


def _learning_lines(config: ExperimentConfig) -> list[str]:
    """Returns when the schedule learns in addition to validations, and from what."""
    from keras_mtl import schedules

    settings, names = config.trainer.schedule, [pair.name for pair in config.task.pairs]
    try:
        planned = schedules.plan(settings.name, dict.fromkeys(names, 1.0), settings.parameters)
    except ConfigError:
        return []  # `inspect` reports the problem elsewhere.
    if not planned.interval:
        return []
    source, measure = "training losses", planned.measures
    if measure is not None:
        quantity = measure.quantity.replace("_", " ")
        source = f"the model's {quantity} on {measure.pairs} pairs of each task"
        source += f", {measure.passes} passes" if measure.passes > 1 else ""
        times = _measurements(planned.make(dict.fromkeys(names, 1.0)))
        source += f", measured {times:,} times" if times > 1 else ""
    return [f"the schedule learns every {planned.interval:,} steps from {source}"]


def _measurements(schedule: "Schedule") -> int:
    """Returns how often a schedule measures the model within its interval."""
    step = first = schedule.next_update(-1)
    count = 0
    while step is not None and first is not None and step < first + schedule.interval:
        count, step = count + 1, schedule.next_update(step)
    return count


def _limit_lines(config: ExperimentConfig) -> list[str]:
    schedule, lines = config.trainer.schedule, []
    for pair in config.task.pairs:
        found = []
        if pair.introduce_at:
            found.append(f"from step {pair.introduce_at:,}")
        if pair.stop_at is not None:
            found.append(f"until step {pair.stop_at:,}")
        if pair.max_epochs is not None:
            found.append(f"at most {pair.max_epochs:g} epochs")
        if found:
            lines.append(f"limits of {pair.name}: {', '.join(found)}")
    if schedule.max_epochs is not None:
        lines.append(f"limit of every task without its own: {schedule.max_epochs:g} epochs")
    if schedule.overfit_patience:
        lines.append(
            f"overfitting: a task falls to the schedule's floor after "
            f"{schedule.overfit_patience} validations in a row with worse scores"
        )
    return lines


def _validation_lines(config: ExperimentConfig) -> list[str]:
    evaluation, lines = config.trainer.evaluation, []
    from keras_mtl.evaluation.task_metrics import TaskMetrics

    metrics = TaskMetrics.of(config)
    if metrics.differ:
        lines.append(f"metrics: {metrics.label}")
    if evaluation.max_tasks:
        lines.append(f"tasks of a validation: at most {evaluation.max_tasks:,}")
    return lines


def _keeping_lines(config: ExperimentConfig) -> list[str]:
    trainer = config.trainer
    stopping, best, lines = trainer.stopping, trainer.best, []
    if trainer.checkpoint_minutes:
        lines.append(
            f"checkpoints: every {trainer.checkpoint_interval:,} steps, and "
            f"{trainer.checkpoint_minutes:g} minutes after the last one"
        )
    if trainer.async_checkpointing:
        lines.append("checkpoints: written in a thread while training continues")
    if (best.macro, best.worst, best.tasks) != (1, 0, 0):
        lines.append(
            f"best weights: {best.macro} on average over tasks, {best.worst} for the worst task, "
            f"{best.tasks} for each task"
        )
    if stopping.patience:
        at_least = f" by at least {stopping.min_delta:g}" if stopping.min_delta else ""
        not_before = f", but not before step {stopping.min_steps:,}" if stopping.min_steps else ""
        lines.append(
            f"early stopping: when the score {stopping.score!r} has not improved{at_least} in "
            f"{stopping.patience} validations{not_before}"
        )
    return lines


def _update_lines(config: ExperimentConfig) -> list[str]:
    optimizer, lines = config.trainer.optimizer, []
    parameters = ", ".join(f"{k}={v}" for k, v in optimizer.learning_rate_parameters.items())
    if optimizer.learning_rate_schedule != "transformer":
        lines.append(f"learning rate: {optimizer.learning_rate_schedule}({parameters})")
    plateau = optimizer.plateau
    if plateau.patience:
        lines.append(
            f"plateau: the learning rate is multiplied by {plateau.factor:g} when the score "
            f"{plateau.score!r} has not improved in {plateau.patience} validations"
        )
    model = config.task.model
    if model.logits_chunk:
        lines.append(f"memory: logits of {model.logits_chunk:,} positions of a device at a time")
    if model.recompute != "none":
        lines.append("memory: the backward pass computes each layer again")
    if optimizer.max_norm_deviation:
        lines.append(
            "skipped updates: those whose log gradient norm is more than "
            f"{optimizer.max_norm_deviation:g} standard deviations above its mean"
        )
    return lines


def _shown_lines(config: ExperimentConfig) -> list[str]:
    evaluation, lines = config.trainer.evaluation, []
    if (evaluation.samples, evaluation.attention) != (3, False):
        attention = " with attention" if evaluation.attention else ""
        lines.append(f"samples: {evaluation.samples} translations{attention} of each task")
    if evaluation.histograms:
        lines.append("histograms: of each variable, for TensorBoard, when a validation begins")
    return lines
