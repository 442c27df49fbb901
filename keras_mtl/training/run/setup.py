"""Prepared data of an experiment: from its configuration to the store."""

import os
from collections.abc import Callable, Iterable

from keras_mtl import errors
from keras_mtl.configuration.schema import CorpusConfig, ExperimentConfig, PairConfig, as_dict
from keras_mtl.data.cleaning import CleaningSettings
from keras_mtl.data.prepare import (
    Corpus,
    PreparedData,
    PrepareSettings,
    TaskSpec,
    VocabularySettings,
    prepare,
)
from keras_mtl.run_files import DATA_DIRECTORY


def _corpora(configs: Iterable[CorpusConfig]) -> list[Corpus]:
    return [(corpus.reader, corpus.options) for corpus in configs]


def _task_cleaning(config: ExperimentConfig, pair: PairConfig) -> CleaningSettings | None:
    """Returns a task's own cleaning rules, or None if it sets none."""
    own = {name: value for name, value in as_dict(pair.cleaning).items() if value is not None}
    return CleaningSettings(**as_dict(config.task.data.cleaning) | own) if own else None


def task_specs(config: ExperimentConfig) -> list[TaskSpec]:
    """Returns the tasks of a configuration as the data room takes them."""
    shared = config.task.data.corpora
    return [
        TaskSpec(
            name=pair.name or f"{pair.source}-{pair.target}",
            source=pair.source,
            target=pair.target,
            corpora=_corpora(pair.corpora or shared),
            dev_corpora=_corpora(pair.dev_corpora),
            test_corpora=_corpora(pair.test_corpora),
            max_pairs=pair.max_pairs,
            cleaning=_task_cleaning(config, pair),
        )
        for pair in config.task.pairs
    ]


def prepare_settings(config: ExperimentConfig) -> PrepareSettings:
    """Returns ``task.data`` of a configuration as the data room takes it."""
    data = config.task.data
    return PrepareSettings(
        cleaning=CleaningSettings(**as_dict(data.cleaning)),
        vocabulary=VocabularySettings(**as_dict(data.vocabulary)),
        dev_fraction=data.dev_fraction,
        test_fraction=data.test_fraction,
        dev_pairs=data.dev_pairs,
        test_pairs=data.test_pairs,
        max_length=data.max_length,
    )


def data_dir_of(config: ExperimentConfig, model_dir: str | os.PathLike[str] | None) -> str:
    """Returns the directory of the prepared data: ``task.data.data_dir`` or ``<model_dir>/data``.

    Raises:
      ConfigError: neither is given.
    """
    if config.task.data.data_dir:
        return config.task.data.data_dir
    if not model_dir:
        raise errors.ConfigError(
            "task.data.data_dir: empty, and no model_dir is given; give one of them"
        )
    return os.path.join(os.fspath(model_dir), DATA_DIRECTORY)


def prepare_from_config(
    config: ExperimentConfig,
    model_dir: str | os.PathLike[str] | None,
    overwrite: bool = False,
    log: Callable[[str], None] = print,
) -> PreparedData:
    """Prepares an experiment's data, unless it is prepared already.

    Args:
      config: the experiment.
      model_dir: directory of the run; only used when ``task.data.data_dir`` is empty.
      overwrite: replace data that was prepared from other inputs or settings.
      log: receives lines of text.

    Returns:
      The prepared data.

    Raises:
      ConfigError, DataError: see :func:`keras_mtl.data.prepare.prepare`.
    """
    return prepare(
        task_specs(config),
        data_dir_of(config, model_dir),
        prepare_settings(config),
        overwrite=overwrite,
        log=log,
    )
