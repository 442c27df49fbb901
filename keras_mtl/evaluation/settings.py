"""The settings of the evaluation of a trained model. Does not import TensorFlow."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Self

from keras_mtl import metrics as metrics_lib
from keras_mtl.data.evaluation_sets import load_corpora
from keras_mtl.decoding.tasks import TaskList, find_task, scored_task, translated
from keras_mtl.errors import ConfigError, InputError
from keras_mtl.evaluation.task_metrics import LOSS_METRIC


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """Settings of an evaluation.

    Attributes:
        split: the part of the prepared data of the run to score: `dev`, `test` or `train`.
        corpora: a file with a list of corpora to score instead of a split; see
            `keras_mtl.data.evaluation_sets.load_corpora`.
        unseen: whether to omit pairs of `corpora` whose source is in the training data.
        on_long_line: what to do with a source that is too long for the model: `error`, `truncate`
            or `skip`.
        tasks: names of the tasks to score. None scores all.
        metrics: names of the metrics.
        max_pairs: maximum number of pairs for each task, at least 1. None scores all.
        beam_size: at least 1. None uses the value of the run.
        checkpoint: the checkpoint to read. None reads the best one or, if there is none, the
            newest.
        backend: `native`, `tf` or `auto`.
        compute_type: compute type of the engine, `float32` or `int8`. None means `float32`.
        workers: number of threads of the engine. None uses one for each processor.
        compare_with: another compute type to score for comparison. None compares nothing.
        samples: number of bootstrap resamples of the comparison.
        copy_source: whether to score the sources, too, as if they were translations.

    Example:
        >>> import keras_mtl
        >>> settings = keras_mtl.EvaluationSettings(split="dev", beam_size=1, max_pairs=100)
        >>> settings.metrics
        ('bleu', 'chrf')
    """

    split: str = "test"
    corpora: str | None = None
    unseen: bool = False
    on_long_line: str = "error"
    tasks: Sequence[str] | None = None
    metrics: Sequence[str] = metrics_lib.TEXT_METRICS
    max_pairs: int | None = None
    beam_size: int | None = None
    checkpoint: str | None = None
    backend: str = "auto"
    compute_type: str | None = None
    workers: int | None = None
    compare_with: str | None = None
    samples: int = 1000
    copy_source: bool = False

    @property
    def what(self) -> str:
        """What is scored, for reports and messages: the file with the corpora, or the split."""
        return self.corpora or self.split

    @property
    def text_metrics(self) -> list[str]:
        """The metrics that compare text."""
        return [name for name in self.metrics if metrics_lib.compares_text(name)]

    def in_other_type(self) -> Self:
        """Returns the settings for the evaluation with the other compute type."""
        return dataclasses.replace(
            self, compute_type=self.compare_with, metrics=self.text_metrics, compare_with=None
        )


def check_settings(model_dir: str | os.PathLike[str], settings: EvaluationSettings) -> None:
    """Checks metrics, tasks and corpora, before a model is loaded.

    Raises:
        ConfigError: a metric is unknown or missing, or a list of corpora is invalid or names an
            unknown task.
        InputError: the model has no such task.
    """
    for name in settings.metrics:
        metrics_lib.check_metric(name)
    if settings.compare_with is not None and not settings.text_metrics:
        raise ConfigError(
            f"--compare_with {settings.compare_with} compares translations, but --metrics "
            f"{' '.join(settings.metrics)} requires none. Add "
            f"{' or '.join(metrics_lib.TEXT_METRICS)}"
        )
    tasks = TaskList.read(model_dir).tasks
    known = [task.name for task in tasks]
    for task in [scored_task(tasks, name) for name in settings.tasks or ()]:
        if task.name not in known and not settings.corpora:
            raise InputError(
                f"--tasks: {task.name!r} was not trained, so the data of the run has no pairs of "
                "it. Give pairs with --corpora"
            )
    corpora = load_corpora(settings.corpora) if settings.corpora else ()
    for number, corpus in enumerate(corpora):
        for name in corpus.tasks or ():
            try:
                find_task(tasks, name)
            except InputError as error:
                raise ConfigError(f"{settings.corpora}[{number}].tasks: {error}") from error
    names = settings.tasks or [task.name for task in translated(tasks)]
    if corpora and settings.tasks is None and all(corpus.tasks for corpus in corpora):
        names = [name for corpus in corpora for name in corpus.tasks or ()]
    targets = {scored_task(tasks, name).target for name in names}
    for name in settings.metrics:
        metrics_lib.check_requirements(name, targets)


def with_suited_metrics(
    model_dir: str | os.PathLike[str], settings: EvaluationSettings, log: Callable[[str], None]
) -> EvaluationSettings:
    """Returns settings with a metric for every task.

    If some of the scored tasks do not translate and all metrics compare translations, `perplexity`
    is added.

    Args:
        model_dir: directory of the run.
        settings: the settings.
        log: function that receives a line if a metric is added.
    """
    tasks = TaskList.read(model_dir).tasks
    names = [task.name for task in tasks] if settings.tasks is None else settings.tasks
    own = {task.name for task in translated(tasks)}
    others = [task.name for task in tasks if task.name in names and task.name not in own]
    if settings.corpora or not others or settings.text_metrics != list(settings.metrics):
        return settings
    log(f"{', '.join(others)}: no translation, so {LOSS_METRIC} is computed, too")
    return dataclasses.replace(settings, metrics=(*settings.metrics, LOSS_METRIC))
