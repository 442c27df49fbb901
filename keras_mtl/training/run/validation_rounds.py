"""Which tasks a validation scores, and the latest scores of all tasks."""

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_mtl.training.run.event_log import Scores

_PREFIX = "rounds/"


class ValidationRounds:
    """Chooses the tasks of each validation, and keeps the latest scores.

    A validation scores all tasks, or at most `max_tasks`: first those without a score, however many
    they are; then, in equal parts, the tasks whose scores are oldest, and those whose scores have
    probably changed most. The expected relative change of a score at step s is

        |score - previous score| / (steps between them) * (s - step of the score) / |score|

    The choice depends only on the scores and their steps, which are part of each checkpoint.

    Args:
        task_names: names of all tasks, in their order.
        validated: names of the validated tasks, in their order.
        metrics: metric of each task, of the scores that the choice depends on.
        max_tasks: largest number of tasks that a validation scores; 0 scores all.
    """

    def __init__(
        self,
        task_names: Sequence[str],
        validated: Sequence[str],
        metrics: Mapping[str, str],
        max_tasks: int,
    ) -> None:
        self._names = tuple(task_names)
        self._validated = tuple(validated)
        self._metrics = metrics
        self._max_tasks = max_tasks if max_tasks < len(validated) else 0
        self._latest: dict[str, tuple[int, dict[str, float]]] = {}
        self._previous: dict[str, tuple[int, float]] = {}

    def choose(self, step: int, everything: bool = False) -> tuple[str, ...]:
        """Returns the names of the tasks that a validation scores, in the order of the tasks.

        Args:
            step: step of the weights, not before that of any score.
            everything: whether to score all tasks.
        """
        if everything or not self._max_tasks:
            return self._validated
        scored = [name for name in self._validated if name in self._latest]
        chosen = {name for name in self._validated if name not in self._latest}
        free = max(0, self._max_tasks - len(chosen))
        oldest = sorted(scored, key=lambda name: self._latest[name][0])  # Sorting is stable.
        chosen.update(oldest[: (free + 1) // 2])
        rest = [name for name in oldest if name not in chosen]
        rest.sort(key=lambda name: self._expected_change(name, step), reverse=True)
        chosen.update(rest[: free // 2])
        return tuple(name for name in self._validated if name in chosen)

    def enter(self, step: int, results: Mapping[str, Scores]) -> None:
        """Records the scores of a validation of the weights of a step."""
        for name, result in results.items():
            if name in self._latest and self._latest[name][0] < step:
                before, scores = self._latest[name]
                self._previous[name] = before, scores[self._metrics[name]]
            self._latest[name] = step, dict(result.scores)

    def scores(self, results: Mapping[str, Scores]) -> dict[str, float]:
        """Returns the score of each validated task, that of its metric.

        Args:
            results: scores by task; tasks that are missing have their latest score.
        """
        latest = {name: scores for name, (_, scores) in self._latest.items()}
        latest |= {name: dict(result.scores) for name, result in results.items()}
        return {name: latest[name][self._metrics[name]] for name in self._validated}

    def averages(self, results: Mapping[str, Scores]) -> dict[str, float]:
        """Returns the mean of each metric over the validated tasks.

        Args:
            results: scores by task; tasks that are missing have their latest score.
        """
        scores = {name: values for name, (_, values) in self._latest.items()}
        scores |= {name: dict(result.scores) for name, result in results.items()}
        values = [scores[name] for name in self._validated]
        # Latest scores of another run may lack a metric.
        return {
            metric: float(np.mean([of_task[metric] for of_task in values]))
            for metric in values[0]
            if all(metric in of_task for of_task in values)
        }

    def is_complete(self, results: Mapping[str, Scores]) -> bool:
        """Returns whether the results of a validation include all validated tasks."""
        return len(results) == len(self._validated)

    def collect(self) -> dict[str, np.ndarray]:
        """Returns the state for a checkpoint; empty if every validation scores all tasks."""
        if not self._max_tasks:
            return {}
        metrics = sorted({metric for _, scores in self._latest.values() for metric in scores})
        scores = np.full((len(self._names), len(metrics)), math.nan)
        steps = np.full((len(self._names), 2), -1, np.int64)
        previous = np.full(len(self._names), math.nan)
        for index, name in enumerate(self._names):
            if name in self._latest:
                steps[index, 0], values = self._latest[name]
                scores[index] = [values.get(metric, math.nan) for metric in metrics]
            if name in self._previous:
                steps[index, 1], previous[index] = self._previous[name]
        return {
            f"{_PREFIX}metrics": np.frombuffer(json.dumps(metrics).encode(), np.uint8),
            f"{_PREFIX}scores": scores,
            f"{_PREFIX}steps": steps,
            f"{_PREFIX}previous": previous,
        }

    def restore(
        self, state: Mapping[str, np.ndarray], index_map: np.ndarray, same_metric: bool
    ) -> None:
        """Restores a state.

        Args:
            state: the arrays from `collect`, possibly among others; they may be missing.
            index_map: int64 [N], the saved index of each current task, -1 for a new one.
            same_metric: whether the state's scores use the metric of this run.
        """
        self._latest, self._previous = {}, {}
        if f"{_PREFIX}steps" not in state or not same_metric:
            return
        metrics = json.loads(state[f"{_PREFIX}metrics"].tobytes())
        for name, index in zip(self._names, index_map, strict=True):
            if index < 0 or name not in self._validated:
                continue
            step, previous_step = map(int, state[f"{_PREFIX}steps"][index])
            values = state[f"{_PREFIX}scores"][index].tolist()
            known = {m: v for m, v in zip(metrics, values, strict=True) if not math.isnan(v)}
            if step >= 0 and self._metrics[name] in known:
                self._latest[name] = step, known
                if previous_step >= 0:
                    previous = float(state[f"{_PREFIX}previous"][index])
                    self._previous[name] = previous_step, previous

    def _expected_change(self, name: str, step: int) -> float:
        """Returns the expected relative change of a score; infinite if it is unknown."""
        if name not in self._previous:
            return math.inf
        (before, previous), (now, scores) = self._previous[name], self._latest[name]
        score = scores[self._metrics[name]]
        change = abs(score - previous) / (now - before) * (step - now)
        return change / abs(score) if score and math.isfinite(change) else math.inf


def share_of_worker(sizes: Mapping[str, int], count: int, index: int) -> tuple[str, ...]:
    """Returns the tasks that one of several workers validates.

    The largest task first, each task goes to the worker that has the fewest pairs so far.

    Args:
        sizes: number of pairs by task, in the order of the tasks.
        count: number of workers, >= 1.
        index: the worker, in [0, count).
    """
    loads = [0] * count
    mine = set()
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        worker = loads.index(min(loads))
        loads[worker] += sizes[name]
        if worker == index:
            mine.add(name)
    return tuple(name for name in sizes if name in mine)
