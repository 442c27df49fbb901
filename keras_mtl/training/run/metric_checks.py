"""Checks of the metrics of the tasks, before data or TensorFlow is loaded."""

from collections.abc import Mapping

from keras_mtl import metrics
from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.other_tasks import is_translation
from keras_mtl.configuration.schema import task_name
from keras_mtl.errors import ConfigError
from keras_mtl.evaluation.task_metrics import TaskMetrics


def check_metrics(draft: Draft, baselines: Mapping[str, float | None] | None) -> None:
    """Adds to a draft what is wrong with the metrics of the validated tasks.

    Args:
        draft: the configuration; unknown metrics are reported elsewhere.
        baselines: score of each task's own model; None if the schedule has a problem.
    """
    config = draft.config
    chosen = TaskMetrics.of(config)
    if not set(chosen.names) <= set(metrics.available()):
        return
    validated = config.trainer.evaluation.tasks or list(chosen.by_task)
    for index, pair in enumerate(config.task.pairs):
        name = task_name(pair)
        metric = chosen.by_task[name]
        path = f"task.pairs[{index}].metric" if pair.metric else "trainer.evaluation.metric"
        if name not in validated:
            continue
        if metrics.compares_text(metric) and not is_translation(pair):
            draft.problem(
                path,
                f"= {metric!r} compares translations, but the kind of task {name!r} is "
                f"{pair.kind!r}; use perplexity or another metric of the loss, or leave it empty",
            )
            continue
        try:
            metrics.check_requirements(metric, [pair.target])
        except ConfigError as error:
            draft.problem(path, f"= {metric!r}: {error}")
        if chosen.differ and baselines is not None and baselines.get(name) is None:
            draft.problem(
                f"task.pairs[{index}].baseline",
                "is missing: tasks have different metrics, so their scores are averaged as score / "
                "baseline; set it, or measure it with `keras-mtl baselines`",
            )
