"""Objects of a run from its configuration."""

import json
from collections.abc import Sequence
from pathlib import Path

from keras_mtl import schedules
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.data.batch_plan import make_buckets
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.prepare import PreparedData
from keras_mtl.data.task_sources import TranslationSource
from keras_mtl.errors import ConfigError, nearest_task
from keras_mtl.evaluation.evaluator import no_pair
from keras_mtl.evaluation.tasks import decoders
from keras_mtl.models.factory import build_transformer
from keras_mtl.schedules import Schedule, TaskInfo
from keras_mtl.training.step.balancing import check_balancing
from keras_mtl.training.step.learning_rate import WarmupSchedule
from keras_mtl.training.step.loss_scale import DynamicLossScale
from keras_mtl.training.step.optimizers import Adam
from keras_mtl.training.step.update_plan import UpdatePlan

# Below this, chrF of a dev set differs by more than a point between two samples of the sentences.
_FEW_DEV_PAIRS = 100
_MOST_SHOWN = 10  # Tasks in a warning.


def read_baselines(config: ExperimentConfig, task_names: Sequence[str]) -> list[float | None]:
    """Returns each task's baseline: its own field, else the baselines file, else None.

    Raises:
        ConfigError: the file is missing, is not a {task: number} object, or a number is not > 0.
    """
    path = config.trainer.schedule.baselines_file
    from_file = _baselines_of_file(path)
    for name in from_file:
        if name not in task_names:
            raise ConfigError(f"{path}: unknown task {name!r}{nearest_task(name, task_names)}")
    own = {pair.name or f"{pair.source}-{pair.target}": pair.baseline for pair in config.task.pairs}
    baselines = []
    for name in task_names:
        value = own.get(name)
        value = from_file.get(name) if value is None else value
        if value is not None and not (isinstance(value, int | float) and value > 0):
            raise ConfigError(f"the baseline of task {name!r} must be a number > 0, got {value!r}")
        baselines.append(None if value is None else float(value))
    return baselines


def _baselines_of_file(path: str) -> dict[str, float]:
    if not path:
        return {}
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"trainer.schedule.baselines_file {path!r} does not exist; `keras-mtl baselines "
            "--model_dir DIR` with the same configuration writes DIR/baselines.json, or write a "
            'JSON file such as {"en-fr": 41.2}'
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"trainer.schedule.baselines_file {path!r} cannot be read: {error}; `keras-mtl "
            'baselines` writes it, or give a JSON file such as {"en-fr": 41.2}'
        ) from error
    if not isinstance(found, dict):
        raise ConfigError(f'{path}: no object such as {{"en-fr": 41.2}}')
    return found


def overruled_baselines(config: ExperimentConfig) -> list[str]:
    """A line for each task whose own baseline is used in place of another one in the file."""
    path = config.trainer.schedule.baselines_file
    from_file = _baselines_of_file(path)
    lines = []
    for pair in config.task.pairs:
        other = from_file.get(pair.name)
        if pair.baseline is not None and other is not None and other != pair.baseline:
            lines.append(
                f"{pair.name}: the baseline {pair.baseline:g} of task.pairs is used, not the "
                f"{other:g} of {path}"
            )
    return lines


def task_infos(config: ExperimentConfig, prepared: PreparedData) -> list[TaskInfo]:
    """Returns what schedules know of the tasks: name, size, baseline."""
    baselines = read_baselines(config, [task.name for task in prepared.tasks])
    return [
        TaskInfo(task.name, task.train_size, baseline)
        for task, baseline in zip(prepared.tasks, baselines, strict=True)
    ]


def build_schedule(config: ExperimentConfig, tasks: Sequence[TaskInfo]) -> Schedule:
    """Makes the schedule that ``trainer.schedule`` names."""
    settings = config.trainer.schedule
    return schedules.create(settings.name, tasks, **settings.parameters)


def check_dev_pairs(config: ExperimentConfig) -> None:
    """Checks before data is prepared that every validated task gets dev pairs.

    Raises:
        ConfigError: a task has neither dev corpora nor a part of its corpora.
    """
    if config.task.data.dev_fraction > 0:
        return
    for pair in config.task.pairs:
        if pair.name in validated_tasks(config) and not pair.dev_corpora:
            raise ConfigError(
                f"task {pair.name!r} has no dev_corpora and task.data.dev_fraction is 0, so it "
                "cannot be validated; give it dev_corpora, raise the fraction, list the other "
                "tasks in trainer.evaluation.tasks, or train with --mode train"
            )


def check_dev_sizes(validated: Sequence[str], prepared: PreparedData) -> list[str]:
    """Checks that every validated task has prepared dev pairs.

    Args:
        validated: names of tasks of the prepared data.
        prepared: the data.

    Returns:
        Warnings: one if tasks have few dev pairs.

    Raises:
        DataError: a task has none.
    """
    sizes = {task.name: task.dev_size for task in prepared.tasks}
    for name in validated:
        if not sizes[name]:
            raise no_pair(name, "dev")
    few = [f"{name} ({sizes[name]})" for name in validated if sizes[name] < _FEW_DEV_PAIRS]
    if not few:
        return []
    shown = ", ".join(few[:_MOST_SHOWN])
    if few[_MOST_SHOWN:]:
        shown += f" and {len(few) - _MOST_SHOWN} more"
    return [
        f"fewer than {_FEW_DEV_PAIRS} dev pairs, so validation scores are noisy: {shown}; raise "
        "task.data.dev_fraction or give dev_corpora"
    ]


def validated_tasks(config: ExperimentConfig) -> list[str]:
    """Returns the names of the tasks that ``trainer.evaluation`` validates, in the tasks' order."""
    chosen = config.trainer.evaluation.tasks
    names = [pair.name for pair in config.task.pairs]
    return [name for name in names if not chosen or name in chosen]


def plan_updates(config: ExperimentConfig) -> UpdatePlan:
    """Decides what updates are made of, before any data is prepared.

    Raises:
        ConfigError: the schedule, a parameter of it or a baseline is wrong, the schedule needs
            scores of tasks that are not validated, what it scales has no meaning for the batches
            that are configured, or ``trainer.balancing`` is wrong.
    """
    names = [pair.name or f"{pair.source}-{pair.target}" for pair in config.task.pairs]
    baselines = read_baselines(config, names)
    # The sizes are not known yet, and no parameter is checked against them.
    infos = [TaskInfo(n, 1, b) for n, b in zip(names, baselines, strict=True)]
    schedule = build_schedule(config, infos)
    validated = config.trainer.evaluation.tasks or names
    unscored = [name for name in names if name not in validated]
    if unscored and schedule.uses_scores:
        raise ConfigError(
            f"trainer.evaluation.tasks leaves out {', '.join(unscored)}, and the schedule "
            f"{config.trainer.schedule.name!r} needs a score of every task; add them, or choose a "
            "schedule that does not adapt to scores"
        )
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
        prepared: the store.
        schedule: decides which task comes next.
        replicas: devices that share a batch; every batch's rows are a multiple of it.
    """
    data = config.task.data
    vocabulary = prepared.vocabulary
    buckets = make_buckets(
        data.max_length,
        data.tokens_per_batch,
        multiple_of=8 * replicas,
        lengths=data.bucket_lengths or None,
    )
    sources = [
        TranslationSource(
            task.name,
            prepared.reader(task.name, "train"),
            tag_id=vocabulary.tag_id(task.target),
            eos_id=vocabulary.eos_id,
        )
        for task in prepared.tasks
    ]
    return Mixture(
        sources,
        schedule,
        buckets,
        seed=config.runtime.seed,
        granularity=data.granularity,
        draw=config.trainer.schedule.draw,
        # A loop looks back at its own start, past what reading ahead has drawn.
        log_steps=2 * config.trainer.steps_per_loop * plan.accumulation + 64,
        fingerprints=config.trainer.log_batches,
    )


def build_model(config: ExperimentConfig, prepared: PreparedData):
    """Builds the model; call it under the strategy's scope."""
    return build_transformer(
        config.task.model, prepared.vocabulary.size, decoders(config, prepared)
    )


def build_loss_scale(config: ExperimentConfig, accumulation: int) -> DynamicLossScale | None:
    """Makes the loss scale of a model that computes in float16, under the strategy's scope.

    Args:
        config: the experiment.
        accumulation: batches of one update, >= 1.

    Returns:
        The loss scale, None for other types.
    """
    if config.runtime.mixed_precision_dtype != "mixed_float16":
        return None
    return DynamicLossScale(config.task.data.tokens_per_batch * accumulation)


def build_optimizer(config: ExperimentConfig, plan: UpdatePlan, hidden_dim: int) -> Adam:
    """Makes the optimizer; build it on the model's variables under the strategy's scope."""
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
