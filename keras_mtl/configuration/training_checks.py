"""Checks for training and preparing, in addition to `keras_mtl.configuration.checks.validate`.

Readers check their options, and schedules check their parameters. A saved run can be used without
either. Balancing methods and sub-layers of plug-ins need TensorFlow and are checked when training
begins.
"""

import contextlib
from collections.abc import Mapping

from keras_mtl import errors
from keras_mtl.configuration import baselines, schema
from keras_mtl.configuration.checks import checked
from keras_mtl.configuration.components import home
from keras_mtl.configuration.problems import Problems


def validate_training(
    config: schema.ExperimentConfig,
    places: Mapping[str, str] | None = None,
    *,
    mode: str = "train_and_eval",
) -> None:
    """Like `validate`, and also checks the readers, the schedule and the baselines.

    A saved run can be evaluated and exported without them, but not trained.

    Args:
        config: as for `validate`.
        places: as for `validate`.
        mode: `train`, which skips validation; `eval` or `train_and_eval`.

    Raises:
        ConfigError: as for `validate`.
    """
    check = checked(config, places)
    _check_readers(check, config)
    _check_schedule(check, config, mode)
    if mode != "train":
        _check_dev_pairs(check, config)
    check.finish()


def validate_preparing(
    config: schema.ExperimentConfig, places: Mapping[str, str] | None = None
) -> None:
    """Like `validate_training`, without the schedule and its baselines, which may not exist yet."""
    check = checked(config, places)
    _check_readers(check, config)
    check.finish()


def _check_readers(check: Problems, config: schema.ExperimentConfig) -> None:
    """Creates the reader of each corpus. A corpus may be missing: it may be prepared already."""
    data = config.task.data
    create = home("reader").create_reader
    for index, pair in enumerate(config.task.pairs):
        for field in ("corpora", "dev_corpora", "test_corpora"):
            path, listed = f"task.pairs[{index}].{field}", getattr(pair, field)
            if field == "corpora" and not listed:
                path, listed = "task.data.corpora", data.corpora
            for number, corpus in enumerate(listed):
                if not corpus.reader or corpus.options.get("download"):
                    continue  # Creating the reader would download the corpus.
                try:
                    with contextlib.suppress(errors.DataError):
                        create(corpus.reader, pair.source, pair.target, corpus.options)
                except errors.ConfigError as error:
                    check.error(f"{path}[{number}]", error)


def _check_dev_pairs(check: Problems, config: schema.ExperimentConfig) -> None:
    """Checks that every validated task has dev corpora or a dev fraction of its corpora."""
    if config.task.data.dev_fraction > 0:
        return
    validated = config.trainer.evaluation.tasks
    for index, pair in enumerate(config.task.pairs):
        name = schema.task_name(pair)
        if not pair.dev_corpora and (not validated or name in validated):
            check.problem(
                f"task.pairs[{index}].dev_corpora",
                f"is empty and task.data.dev_fraction is 0, so task {name!r} cannot be validated; "
                "give it dev_corpora, set the fraction above 0, list only the other tasks in "
                "trainer.evaluation.tasks, or train with --mode train",
            )


def _check_schedule(check: Problems, config: schema.ExperimentConfig, mode: str) -> None:
    settings, schedules = config.trainer.schedule, home("schedule")
    known: Mapping[str, float | None] = dict.fromkeys(map(schema.task_name, config.task.pairs))
    try:
        known = baselines.of_tasks(config)
    except errors.ConfigError as error:
        check.error("trainer.schedule.baselines_file", error)
    if not settings.name or not known:
        return
    try:
        schedule = schedules.create_unsized(settings.name, known, **settings.parameters)
    except errors.ConfigError as error:
        check.error("trainer.schedule.name", error)
        return
    validated = config.trainer.evaluation.tasks
    unscored = [name for name in known if validated and name not in validated]
    if unscored and schedule.uses_scores:
        check.problem(
            "trainer.evaluation.tasks",
            f"leaves out {', '.join(unscored)}, and the schedule {settings.name!r} needs a score "
            "of every task; add them, or use a schedule that does not adapt to scores",
        )
    if schedule.adaptive and mode == "train":
        check.problem(
            "trainer.schedule.name",
            f"= {settings.name!r} adapts to validation scores; use --mode train_and_eval",
        )
