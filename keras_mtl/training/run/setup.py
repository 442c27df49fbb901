"""The prepared data of a run."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from keras_mtl import errors
from keras_mtl.configuration.schema import TranslationConfig
from keras_mtl.data.prepare import PreparedData, prepare
from keras_mtl.data.remote_store import prepare_remote
from keras_mtl.remote_files import is_remote
from keras_mtl.run_files import data_directory

if TYPE_CHECKING:
    from keras_mtl.data.beam_pipeline import Runner


def data_dir_of(data_dir: str, model_dir: str | os.PathLike[str] | None) -> str:
    """Returns the directory of the prepared data: `task.data.data_dir` or `<model_dir>/data`.

    Args:
        data_dir: `task.data.data_dir`.
        model_dir: directory of the run, if there is one.

    Raises:
        ConfigError: both are empty.
    """
    if not data_dir and not model_dir:
        raise errors.ConfigError(
            "task.data.data_dir is empty, and no model_dir is given. Set one of them"
        )
    return data_directory(data_dir, model_dir or "")


def prepare_task_data(
    task: TranslationConfig,
    model_dir: str | os.PathLike[str] | None,
    overwrite: bool = False,
    processes: int | None = None,
    runner: "Runner | None" = None,
    log: Callable[[str], None] = print,
) -> PreparedData:
    """Prepares the data of the tasks, unless it is already prepared.

    Args:
        task: the section with the tasks and the settings of their data.
        model_dir: directory of the run. Used only if `task.data.data_dir` is empty.
        overwrite: whether to replace data that was prepared from other corpora or settings.
        processes: see `keras_mtl.data.prepare.prepare`.
        runner: see `keras_mtl.data.prepare.prepare`.
        log: function that receives lines for the user.

    Returns:
        The prepared data.

    Raises:
        ConfigError: see `keras_mtl.data.prepare.prepare`; or a runner cannot write to a URL.
        DataError: see `keras_mtl.data.prepare.prepare`.
    """
    directory = data_dir_of(task.data.data_dir, model_dir)
    arguments = task.pairs, directory, task.data
    if not is_remote(directory):
        return prepare(*arguments, overwrite=overwrite, processes=processes, runner=runner, log=log)
    if runner is not None:
        raise errors.ConfigError(
            f"task.data.data_dir = {directory}: is a URL, which a Beam runner cannot write to; "
            "give a directory that all workers see, and copy it there afterwards"
        )
    return prepare_remote(*arguments, overwrite=overwrite, processes=processes, log=log)
