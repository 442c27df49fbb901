"""Builds the objects of a run from its configuration."""

from collections.abc import Sequence
from typing import Any

from keras_mtl import schedules
from keras_mtl.configuration import baselines
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.data.batch_shapes import batch_shapes, training_sources
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.prepare import PreparedData
from keras_mtl.evaluation.evaluator import no_pair
from keras_mtl.evaluation.tasks import decoders
from keras_mtl.metrics import schedule_higher_is_better
from keras_mtl.models.factory import build_transformer
from keras_mtl.schedules import AdaptiveState, Schedule, TaskInfo
from keras_mtl.training.step.balancing import check_balancing
from keras_mtl.training.step.learning_rate import WarmupSchedule
from keras_mtl.training.step.loss_scale import DynamicLossScale
from keras_mtl.training.step.optimizers import Adam
from keras_mtl.training.step.update_plan import UpdatePlan

# With fewer pairs, chrF differs by more than a point between two random samples of a dev set.
_FEW_DEV_PAIRS = 100
_MAX_SHOWN = 10  # Maximum number of tasks listed in a warning.


def task_infos(config: ExperimentConfig, prepared: PreparedData) -> list[TaskInfo]:
    """Returns name, size and baseline of each task, for the schedule."""
    known = baselines.of_tasks(config)
    return [TaskInfo(task.name, task.train_size, known[task.name]) for task in prepared.tasks]


def build_schedule(config: ExperimentConfig, tasks: Sequence[TaskInfo]) -> Schedule:
    """Makes the schedule that `trainer.schedule` specifies."""
    settings = config.trainer.schedule
    return schedules.create(settings.name, tasks, **settings.parameters)


def check_dev_sizes(validated: Sequence[str], prepared: PreparedData) -> list[str]:
    """Checks that every validated task has prepared dev pairs.

    Args:
        validated: names of the validated tasks.
        prepared: the prepared data.

    Returns:
        A list with a warning if tasks have few dev pairs, else an empty list.

    Raises:
        DataError: a task has no dev pairs.
    """
    sizes = {task.name: task.dev_size for task in prepared.tasks}
    for name in validated:
        if not sizes[name]:
            raise no_pair(name, "dev")
    few = [f"{name} ({sizes[name]})" for name in validated if sizes[name] < _FEW_DEV_PAIRS]
    if not few:
        return []
    shown = ", ".join(few[:_MAX_SHOWN])
    if few[_MAX_SHOWN:]:
        shown += f" and {len(few) - _MAX_SHOWN} more"
    return [
        f"validation scores are noisy for tasks with fewer than {_FEW_DEV_PAIRS} dev pairs: "
        f"{shown}. Raise task.data.dev_fraction or set dev_corpora"
    ]


def validated_tasks(config: ExperimentConfig) -> list[str]:
    """Returns the names of the tasks that `trainer.evaluation` selects, in their order."""
    chosen = config.trainer.evaluation.tasks
    names = [pair.name for pair in config.task.pairs]
    return [name for name in names if not chosen or name in chosen]


def plan_updates(config: ExperimentConfig) -> UpdatePlan:
    """Makes the plan of updates, which does not require prepared data.

    Raises:
        ConfigError: the schedule, one of its parameters, a baseline or `trainer.balancing` is
            invalid, or the schedule's factors cannot be applied to the configured batches.
    """
    known = baselines.of_tasks(config)
    settings = config.trainer.schedule
    schedule = schedules.create_unsized(settings.name, known, **settings.parameters)
    plan = UpdatePlan.of(config, schedule)
    check_balancing(config, plan)
    plan.check_batches()
    return plan


def build_mixture(
    config: ExperimentConfig,
    plan: UpdatePlan,
    prepared: PreparedData,
    schedule: Schedule,
    replicas: int,
) -> Mixture:
    """Makes the mixture of the tasks' training pairs.

    Args:
        config: the experiment.
        plan: the plan of its updates.
        prepared: the prepared data.
        schedule: the schedule that selects the next task.
        replicas: number of devices that share a batch; the number of rows is a multiple of it.
    """
    data = config.task.data
    sources = training_sources(prepared)
    metric = config.trainer.evaluation.metric
    return Mixture(
        sources,
        AdaptiveState(schedule, metric, schedule_higher_is_better(metric)),
        batch_shapes(data, sources, replicas),
        seed=config.runtime.seed,
        granularity=data.granularity,
        draw=config.trainer.schedule.draw,
        # At its end, a loop needs the probabilities since its start, despite later prefetched
        # draws.
        log_steps=2 * config.trainer.steps_per_loop * plan.accumulation + 64,
        fingerprints=config.trainer.log_batches,
    )


def build_model(config: ExperimentConfig, prepared: PreparedData) -> Any:
    """Builds the model; call it under the strategy's scope."""
    return build_transformer(
        config.task.model, prepared.vocabulary.size, decoders(config, prepared)
    )


def build_loss_scale(config: ExperimentConfig, accumulation: int) -> DynamicLossScale | None:
    """Makes the loss scale of a model that computes in float16, under the strategy's scope.

    Args:
        config: the experiment.
        accumulation: batches per update, >= 1.

    Returns:
        The loss scale; None for other types.
    """
    if config.runtime.mixed_precision_dtype != "mixed_float16":
        return None
    return DynamicLossScale(config.task.data.tokens_per_batch * accumulation)


def build_optimizer(config: ExperimentConfig, plan: UpdatePlan, hidden_dim: int) -> Adam:
    """Makes the optimizer; call it under the strategy's scope and build it on the variables."""
    settings = config.trainer.optimizer
    return Adam(
        WarmupSchedule(
            settings.learning_rate_schedule,
            settings.learning_rate,
            settings.warmup_steps,
            hidden_dim,
            config.trainer.train_steps,
        ),
        beta_1=settings.beta_1,
        beta_2=settings.beta_2,
        epsilon=settings.epsilon,
        decoupled_weight_decay=settings.weight_decay,
        average_momentum=settings.ema_momentum,
        num_tasks=plan.num_tasks if plan.of_one_task else 0,
        moments=plan.moments,
    )
