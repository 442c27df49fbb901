"""Whether a run ended early, found out from its log."""

import math
from collections.abc import Mapping
from pathlib import Path

from keras_mtl.configuration.files import load_experiment
from keras_mtl.configuration.keeping import MACRO, WORST
from keras_mtl.errors import ConfigError
from keras_mtl.evaluation.task_metrics import TaskMetrics
from keras_mtl.events import Curve
from keras_mtl.run_files import PARAMS_FILE
from keras_mtl.training.run.early_stopping import EarlyStopping
from keras_mtl.training.run.selected_scores import SelectedScores


def stopped_early(
    directory: Path,
    scores: Mapping[str, Mapping[str, Curve]],
    baselines: Mapping[str, float],
    last_step: int,
) -> bool:
    """Returns whether `trainer.stopping` ends a run at the last step of its log.

    The log does not say so itself: whoever raises the patience continues the run. So the rule is
    applied to the logged scores.

    Args:
        directory: the `model_dir` of the run.
        scores: curves of validation scores, by metric and task.
        baselines: baseline by task, in the unit of its metric as schedules compare it.
        last_step: last step of the log.

    Returns:
        False also if the configuration cannot be read, or if the score has no value because tasks
        have different metrics and one of them has no baseline.
    """
    try:
        # Unchecked, because corpora and baselines may no longer exist.
        config = load_experiment(config_files=[directory / PARAMS_FILE], check=None)
    except ConfigError:
        return False
    stopping = config.trainer.stopping
    metrics = TaskMetrics.of(config)
    curves = {
        task: scores[metric][task]
        for task, metric in metrics.by_task.items()
        if task in scores.get(metric, {})
    }
    if not curves or stopping.score not in (MACRO, WORST, *curves):
        return False
    of_all = stopping.score in (MACRO, WORST)
    if of_all and metrics.differ and any(task not in baselines for task in curves):
        return False
    rule = EarlyStopping(stopping, SelectedScores(metrics, list(curves), baselines))
    latest = dict.fromkeys(curves, math.nan)
    for step in sorted({step for curve in curves.values() for step in curve}):
        scored = {task: curve[step] for task, curve in curves.items() if step in curve}
        latest |= scored
        rule.observe(step, latest, scored)
    return rule.stops(last_step)
