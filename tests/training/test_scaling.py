"""Which factors act on what, from a configuration: defaults, refusals, warnings."""

import pytest

from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.schema import ExperimentConfig, PairConfig
from keras_mtl.errors import ConfigError
from keras_mtl.training.run import building
from keras_mtl.training.run.planning import plan_schedule, plan_updates


def experiment(schedule="implicit", **changes):
    config = ExperimentConfig()
    config.task.pairs = [
        PairConfig(source="en", target=target, baseline=10.0) for target in ("fr", "gl")
    ]
    config.trainer.schedule.name = schedule
    for path, value in changes.items():
        section = config
        *sections, name = path.split("__")
        for part in sections:
            section = getattr(section, part)
        setattr(section, name, value)
    return config


def updates(config):
    draft = Draft(config)
    schedule, _ = plan_schedule(draft)
    plan = plan_updates(draft, schedule)
    draft.finish()
    return plan


@pytest.mark.parametrize(
    ("changes", "moments", "num_tasks"),
    [
        ({}, "shared", 0),
        ({"trainer__schedule__application": "learning_rate"}, "scaled", 2),
        ({"trainer__optimizer__moments": "per_task"}, "per_task", 2),
        ({"trainer__optimizer__moments": "scaled"}, "scaled", 2),
        (
            {
                "trainer__schedule__application": "learning_rate",
                "trainer__optimizer__moments": "shared",
            },
            "shared",
            2,
        ),
        # Without factors the application is of no consequence.
        ({"schedule": "uniform", "trainer__schedule__application": "learning_rate"}, "shared", 0),
    ],
)
def test_moments_follow_the_application(changes, moments, num_tasks):
    config = experiment(**changes)
    plan = updates(config)
    optimizer = building.build_optimizer(config.trainer, plan, 64)
    assert (optimizer.moments, optimizer.num_tasks) == (moments, num_tasks)
    application = config.trainer.schedule.application
    fits = moments == "scaled" or (application == "learning_rate") == (moments == "per_task")
    assert (plan.warning is None) == (fits or "schedule" in changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"trainer__schedule__application": "learning_rate"},
            "factors on the learning rate require updates with a single task.* "
            "trainer.schedule.application to gradient",
        ),
        (
            {"schedule": "uniform", "trainer__optimizer__moments": "per_task"},
            "per_task moments require .* trainer.optimizer.moments to shared",
        ),
    ],
)
def test_updates_of_several_tasks_are_refused(changes, message):
    mixed = experiment(**changes, task__data__granularity="example")
    with pytest.raises(ConfigError, match=f"task.data.granularity = 'example', but {message}"):
        updates(mixed)
    accumulated = experiment(**changes, trainer__optimizer__gradient_accumulation_steps=4)
    with pytest.raises(ConfigError, match=r"steps = 4, .*Set it to 1"):
        updates(accumulated)


def test_factors_on_gradients_take_any_batches():
    updates(
        experiment(
            task__data__granularity="example",
            trainer__optimizer__gradient_accumulation_steps=4,
        )
    )
