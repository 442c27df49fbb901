"""Prepares the data of an experiment from its configuration."""

import os
from collections.abc import Callable

from keras_mtl import errors
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.data.prepare import PreparedData, prepare
from keras_mtl.run_files import data_directory


def data_dir_of(config: ExperimentConfig, model_dir: str | os.PathLike[str] | None) -> str:
    """Returns the directory of the prepared data: `task.data.data_dir` or `<model_dir>/data`.

    Raises:
        ConfigError: both are empty.
    """
    if not config.task.data.data_dir and not model_dir:
        raise errors.ConfigError(
            "task.data.data_dir is empty, and no model_dir is given. Set one of them"
        )
    return data_directory(config.task.data.data_dir, model_dir or "")


def prepare_from_config(
    config: ExperimentConfig,
    model_dir: str | os.PathLike[str] | None,
    overwrite: bool = False,
    log: Callable[[str], None] = print,
) -> PreparedData:
    """Prepares an experiment's data unless this has already been done.

    Args:
        config: the experiment.
        model_dir: directory of the run; used only if `task.data.data_dir` is empty.
        overwrite: whether to replace data that was prepared from other inputs or settings.
        log: function that receives lines for the user.

    Returns:
        The prepared data.

    Raises:
        ConfigError: see `keras_mtl.data.prepare.prepare`.
        DataError: see `keras_mtl.data.prepare.prepare`.
    """
    return prepare(
        config.task.pairs,
        data_dir_of(config, model_dir),
        config.task.data,
        overwrite=overwrite,
        log=log,
    )
