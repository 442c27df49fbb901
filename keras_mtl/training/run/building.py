"""Objects of a run from the sections of its configuration."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_mtl.configuration.optimizer_sections import is_adam
from keras_mtl.configuration.schema import TrainerConfig, TransformerConfig, TranslationConfig
from keras_mtl.data.batch_shapes import batch_shapes, training_sources
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.prepare import PreparedData
from keras_mtl.evaluation.evaluator import no_pair
from keras_mtl.evaluation.task_metrics import TaskMetrics
from keras_mtl.evaluation.tasks import decoders
from keras_mtl.models import factory
from keras_mtl.schedules import AdaptiveState, Schedule
from keras_mtl.training.step.gradient_norm import GradientNormTracker
from keras_mtl.training.step.keras_optimizers import create_keras_optimizer
from keras_mtl.training.step.learning_rate import WarmupSchedule
from keras_mtl.training.step.loss_scale import DynamicLossScale
from keras_mtl.training.step.optimizers import Adam
from keras_mtl.training.step.update_plan import UpdatePlan

# With fewer pairs, chrF differs by more than a point between two random samples of a dev set.
_FEW_DEV_PAIRS = 100
_MAX_SHOWN = 10  # Maximum number of tasks listed in a warning.


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


def build_mixture(
    task: TranslationConfig,
    trainer: TrainerConfig,
    task_metrics: TaskMetrics,
    seed: int,
    prepared: PreparedData,
    schedule: Schedule,
    replicas: int,
    logs_batches: bool = False,
) -> Mixture:
    """Creates the mixture of the training pairs of the tasks.

    Args:
        task: the tasks and the settings of the batches.
        trainer: the settings of draws and of the number of logged steps.
        task_metrics: the metrics of the tasks.
        seed: seed of shuffling and draws.
        prepared: the prepared data.
        schedule: the schedule that selects the next task.
        replicas: number of devices that share a batch. The number of rows is a multiple of it.
        logs_batches: whether this process writes the log of batches.
    """
    data = task.data
    sources = training_sources(prepared, task, seed)
    accumulation = trainer.optimizer.gradient_accumulation_steps
    return Mixture(
        sources,
        AdaptiveState(schedule, task_metrics.label, task_metrics.schedule_higher_is_better),
        batch_shapes(data, sources, replicas),
        seed=seed,
        granularity=data.granularity,
        draw=trainer.schedule.draw,
        # Prefetching draws ahead, but the end of a loop still requires the log since its start.
        log_steps=2 * trainer.steps_per_loop * accumulation + 64,
        fingerprints=trainer.log_batches and logs_batches,
    )


def build_model(
    model: TransformerConfig,
    vocabulary_size: int,
    tasks: Sequence[Any],
    source_vocabulary_size: int | None = None,
) -> Any:
    """Builds the model; call it under the strategy's scope.

    Args:
        model: the settings of the model.
        vocabulary_size: number of ids.
        tasks: objects with the `name`, `source` and `target` of each task.
        source_vocabulary_size: number of ids of sources; None if it is `vocabulary_size`.
    """
    names = decoders(model.sharing, [task.target for task in tasks])
    return factory.build_model(
        model,
        vocabulary_size,
        names,
        tasks=tasks,
        source_vocabulary_size=source_vocabulary_size,
    )


def build_loss_scale(dtype: str, tokens: int) -> DynamicLossScale | None:
    """Creates the loss scale of a model that computes in float16. Call it in the strategy's scope.

    Args:
        dtype: `runtime.mixed_precision_dtype`.
        tokens: maximum number of tokens in one update, at least 1.

    Returns:
        The loss scale, or None for other types.
    """
    return DynamicLossScale(tokens) if dtype == "mixed_float16" else None


def build_norm_tracker(max_deviation: float) -> GradientNormTracker | None:
    """Creates the tracker of gradient norms. Call it in the strategy's scope.

    Args:
        max_deviation: `trainer.optimizer.max_norm_deviation`.

    Returns:
        The tracker, or None if no update is skipped because of its norm.
    """
    return GradientNormTracker(max_deviation) if max_deviation else None


def build_optimizer(trainer: TrainerConfig, plan: UpdatePlan, hidden_dim: int) -> Any:
    """Creates the optimizer. Build it for the variables of the model in the strategy's scope.

    Returns:
        An `Adam` or a `KerasOptimizer`.
    """
    settings = trainer.optimizer
    learning_rate = WarmupSchedule(
        settings.learning_rate_schedule,
        settings.learning_rate,
        settings.warmup_steps,
        hidden_dim,
        trainer.train_steps,
        settings.learning_rate_parameters,
        _plateau_factor() if settings.plateau.patience else None,
    )
    factors = [(rule.match, rule.factor) for rule in settings.learning_rate_factors]
    if not is_adam(settings):
        return create_keras_optimizer(
            settings.name, settings.parameters, learning_rate, settings.ema_momentum, factors
        )
    return Adam(
        learning_rate,
        beta_1=settings.beta_1,
        beta_2=settings.beta_2,
        epsilon=settings.epsilon,
        decoupled_weight_decay=settings.weight_decay,
        average_momentum=settings.ema_momentum,
        num_tasks=plan.num_tasks if plan.of_one_task else 0,
        moments=plan.moments,
        learning_rate_factors=factors,
    )


def _plateau_factor() -> tf.Variable:
    """Creates the factor of `keras_mtl.training.run.plateau_decay`."""
    return tf.Variable(
        1.0,
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        name="plateau_factor",
    )
