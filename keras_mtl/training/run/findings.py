"""The findings of `keras-mtl inspect` for a configuration: dubious settings and errors."""

import contextlib

from keras_mtl import errors
from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.other_tasks import is_translation
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.data.language_notes import Direction, language_notes
from keras_mtl.data.pair_changes import training_changes
from keras_mtl.data.prepared import PreparedData
from keras_mtl.data.reader_checks import check_readers
from keras_mtl.training.run.building import check_dev_sizes
from keras_mtl.training.run.planning import dubious_notes, plan_training, validated_tasks
from keras_mtl.training.step.balancing import check_balancing
from keras_mtl.training.step.keras_optimizers import check_optimizer


def find_notes(config: ExperimentConfig, prepared: PreparedData | None) -> list[str]:
    """Returns notes on valid but dubious settings: language codes, untrained tasks, few dev pairs.

    Args:
        config: the configuration.
        prepared: the prepared data, if there is any.
    """
    pairs = config.task.pairs
    directions = [pair for pair in pairs if is_translation(pair)]
    notes = language_notes(Direction(pair.name, pair.source, pair.target) for pair in directions)
    notes += dubious_notes(config)
    if prepared is not None:
        known = {task.name for task in prepared.tasks}
        with contextlib.suppress(errors.DataError):  # `find_problems` reports it.
            notes += check_dev_sizes([n for n in validated_tasks(config) if n in known], prepared)
    return notes


def find_problems(config: ExperimentConfig, prepared: PreparedData | None) -> list[str]:
    """Returns the problems that would make data preparation or training fail.

    Args:
        config: the configuration.
        prepared: the prepared data; if there is any, corpora may be missing.

    Returns:
        One message per problem.
    """
    problems: dict[str, None] = {}  # Used as an ordered set, because tasks may share a corpus.
    try:
        plan = plan_training(Draft(config))
        check_balancing(config.trainer.balancing, plan.updates)
        check_optimizer(config.trainer.optimizer)
    except errors.ConfigError as error:
        problems.update(dict.fromkeys(str(error).split("\n  ")))
    if prepared is not None:
        known = {task.name for task in prepared.tasks}
        try:
            check_dev_sizes([n for n in validated_tasks(config) if n in known], prepared)
        except errors.DataError as error:
            problems[str(error)] = None
        try:
            training_changes(config.task.pairs, config.task.data, prepared.vocabulary, seed=0)
        except errors.ConfigError as error:
            problems[str(error)] = None
    missing = check_readers(Draft(config))
    if prepared is None:
        problems.update(dict.fromkeys(missing))
    return list(problems)
