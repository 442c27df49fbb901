"""The settings that `prepare` takes from `task.pairs` and `task.data` of a configuration."""

import dataclasses
import sys
from collections.abc import Iterable, Sequence

from keras_mtl.configuration import checks
from keras_mtl.configuration.other_tasks import DENOISING, is_translation
from keras_mtl.configuration.schema import (
    CleaningConfig,
    DataConfig,
    PairConfig,
    TaskCleaningConfig,
    as_dict,
    source_language,
    task_name,
)


def filled_tasks(pairs: Sequence[PairConfig], data: DataConfig) -> list[PairConfig]:
    """Returns the tasks with their names and corpora filled in.

    Args:
        pairs: the tasks; those without a name get `source-target`, and those without corpora get
            `data.corpora`.
        data: the settings of all tasks.

    Raises:
        ConfigError: a task or a setting is wrong; the message has a line for each problem.
    """
    tasks = [
        dataclasses.replace(
            pair,
            name=task_name(pair),
            source=source_language(pair),
            corpora=pair.corpora or data.corpora,
        )
        for pair in pairs
    ]
    checks.validate_data(tasks, data)
    return tasks


def cleaning_of(task: PairConfig, data: DataConfig) -> CleaningConfig:
    """Returns the cleaning rules of a task: its own values, else those of `data.cleaning`.

    A task with one side has no rules that compare two sides.
    """
    own = {name: value for name, value in as_dict(task.cleaning).items() if value is not None}
    if not is_translation(task):
        own |= {"drop_identical": False, "max_length_ratio": float("inf")}
    return dataclasses.replace(data.cleaning, **own)


def has_own_cleaning(task: PairConfig) -> bool:
    """Whether a task sets its own cleaning rules."""
    return task.cleaning != TaskCleaningConfig()


def max_pieces(data: DataConfig) -> int:
    """Returns the longest side in the store; a batch adds a language tag and end of sentence."""
    return data.max_length - 2


def stored_pairs(
    task: PairConfig, pairs: Iterable[tuple[str, str]], separate: bool = False
) -> list[tuple[str, str]]:
    """Returns pairs as the store holds them: those of a task with one side have no source.

    Args:
        task: the task.
        pairs: pairs of its corpora.
        separate: whether sources have a vocabulary of their own. The source of a denoising task is
            then its text in the pieces of this vocabulary, to which the noise is added.
    """
    if is_translation(task):
        return list(pairs)
    twice = separate and task.kind == DENOISING
    return [(target if twice else "", target) for _, target in pairs]


def given_settings(settings: CleaningConfig) -> CleaningConfig:
    """Drops only pairs that cannot be scored: given dev and test sets stay whole."""
    return dataclasses.replace(
        settings,
        max_characters=sys.maxsize,
        max_length_ratio=float("inf"),
        drop_identical=False,
        drop_duplicates=False,
    )
