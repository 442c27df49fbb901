"""The metric of each task: `trainer.evaluation.metric`, or the task's own."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Self

import numpy as np

from keras_mtl import metrics
from keras_mtl.configuration.other_tasks import is_translation
from keras_mtl.configuration.schema import ExperimentConfig, PairConfig, task_name

#: The metric of tasks that do not translate.
LOSS_METRIC = "perplexity"


@dataclasses.dataclass(frozen=True)
class TaskMetrics:
    """The metrics of the tasks of a run.

    Attributes:
        default: `trainer.evaluation.metric`.
        by_task: the metric of each task, in the order of the tasks.
    """

    default: str
    by_task: Mapping[str, str]

    @classmethod
    def of(cls, config: ExperimentConfig) -> Self:
        """Returns the metrics of a configuration."""
        default = config.trainer.evaluation.metric
        pairs = config.task.pairs
        return cls(default, {task_name(pair): metric_of(pair, default) for pair in pairs})

    @classmethod
    def same(cls, metric: str, tasks: Iterable[str]) -> Self:
        """Returns the same metric for all tasks."""
        return cls(metric, dict.fromkeys(tasks, metric))

    @property
    def names(self) -> list[str]:
        """The metrics of all tasks, each once."""
        return list(dict.fromkeys(self.by_task.values()))

    @property
    def differ(self) -> bool:
        """Whether tasks have different metrics."""
        return len(self.names) > 1

    @property
    def main(self) -> str:
        """The metric that logs and charts show: the default if a task has it, else the first."""
        return self.default if self.default in self.names else self.names[0]

    @property
    def title(self) -> str:
        """What the scores of the tasks are, for tables: the metric, or `score` if they differ."""
        return "score" if self.differ else self.names[0]

    @property
    def schedule_higher_is_better(self) -> tuple[bool, ...]:
        """Whether larger values of `metrics.schedule_score` are better, for each task in order."""
        return tuple(map(metrics.schedule_higher_is_better, self.by_task.values()))

    @property
    def average_higher_is_better(self) -> bool:
        """Whether larger values of `average` are better."""
        return self.differ or metrics.higher_is_better(self.names[0])

    @property
    def label(self) -> str:
        """A name of the metrics, equal only if the metric of each task is."""
        if not self.differ:
            return self.names[0]
        return ", ".join(f"{task}: {metric}" for task, metric in self.by_task.items())

    @property
    def average_title(self) -> str:
        """What `average` is, for messages: the metric, or score / baseline."""
        return "score / baseline" if self.differ else self.names[0]

    @property
    def average_decimals(self) -> int:
        """Number of decimals of `average` in messages."""
        return 3 if self.differ else metrics.decimals(self.names[0]) + 1

    def average(self, scores: Mapping[str, float], baselines: Mapping[str, float]) -> float:
        """Returns the average score of some tasks.

        Scores in different units have no average, so then it is the mean of `ratio`.

        Args:
            scores: score by task, in the unit of its metric.
            baselines: baseline by task, used if metrics differ.
        """
        if not self.differ:
            return float(np.mean(list(scores.values())))
        ratios = [self.ratio(task, score, baselines[task]) for task, score in scores.items()]
        return float(np.mean(ratios))

    def ratio(self, task: str, score: float, baseline: float) -> float:
        """Returns score / baseline, or baseline / score if lower is better; higher is better.

        Args:
            task: name of the task.
            score: its score, in the unit of its metric.
            baseline: its baseline, in the unit of schedules; > 0.
        """
        value = metrics.schedule_score(self.by_task[task], score)
        if metrics.schedule_higher_is_better(self.by_task[task]):
            return value / baseline
        return baseline / max(value, 1e-6 * baseline)


def metric_of(pair: PairConfig, default: str) -> str:
    """Returns the metric of a task.

    Args:
        pair: the task.
        default: `trainer.evaluation.metric`. A task that does not translate has `perplexity`
            instead if that compares translations.
    """
    found = metrics.find(default)
    if not is_translation(pair) and (found is None or found.compares_text):
        default = LOSS_METRIC
    return pair.metric or default
