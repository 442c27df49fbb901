"""Learning curves from the `metrics.jsonl` of a recorded run."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_mtl.errors import ConfigError, DataError, nearest_task
from keras_mtl.events import Curve, Event, of_kind, task_curves, validation_metric
from keras_mtl.metrics import schedule_higher_is_better, schedule_score
from keras_mtl.schedules import TaskInfo
from keras_mtl.simulation.curves import GIVEN, RECORDED, Curves, CurveSettings


class RecordedCurves(Curves):
    """The score of each task as a function of how much it had learned when it was scored.

    Between two scores the curve is linear in log(1 + learned). It never gets worse: noise or the
    recorded schedule explain why a recorded score fell. Beyond the last score the curve is
    constant, which `held` reports. The recorded scores already include the effect of other tasks,
    so `transfer` is not used. The effect of the recent share depends on how it differs from the
    recorded one.

    Args:
        tasks: the tasks; a task without a baseline gets its best recorded score as baseline.
        events: events from `keras_mtl.events.read_events`.
        rows: float64[N], number of examples per count of `batches`: those of a batch, or 1 if
            batches were mixed.
        settings: parameters, of which `repeats`, `interference`, `forgetting` and `memory` are
            used.
        metrics: {task: metric} if tasks have different ones; None takes that of the run.

    Attributes:
        metric: metric of the scores.

    Raises:
        DataError: the run has no validation, or does not have one of the tasks.
    """

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        events: Sequence[Event],
        rows: np.ndarray,
        settings: CurveSettings | None = None,
        metrics: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = dataclasses.replace(settings or CurveSettings(), transfer=0.0)
        evaluations = of_kind(events, "evaluation")
        trains = [event for event in of_kind(events, "train") if "batches" in event]
        if not evaluations or not trains:
            raise DataError(
                "the recorded run has no validation scores or no counts of batches; record one "
                "that is validated during training"
            )
        # The metric or the tasks of a run may change: events without a score of the task are
        # skipped.
        self.metric = validation_metric(evaluations)
        self.higher_is_better = schedule_higher_is_better(self.metric)
        sizes = np.array([task.size for task in tasks], np.float64)
        names = [task.name for task in tasks]
        metric_of = {name: (metrics or {}).get(name, self.metric) for name in names}
        of_metric = {
            metric: task_curves(evaluations, "scores", metric) for metric in metric_of.values()
        }
        for name, metric in metric_of.items():
            if schedule_higher_is_better(metric) != self.higher_is_better:
                raise ConfigError(
                    f"the scores of task {name!r} ({metric}) and those of the recorded run "
                    f"({self.metric}) cannot be played together: of one, higher is better, and of "
                    "the other, lower. Omit the task, or give other curves than --recorded"
                )
            known = list(of_metric[metric])
            if name not in known:
                raise DataError(
                    f"the recorded run has no score of task {name!r}{nearest_task(name, known)}"
                )
        steps = np.array([event["step"] for event in trains], np.float64)
        counts = np.array(
            [[event["batches"].get(name, 0) for name in names] for event in trains], np.float64
        )
        learned = np.array([self.settings.useful(row * rows, sizes) for row in counts])
        total = max(1.0, float(counts[-1].sum()))
        self._share = counts[-1] / total
        loss_curves = task_curves(trains, "loss")
        self._score_points = []
        self._loss_points = []
        infos = []
        for index, task in enumerate(tasks):
            metric = metric_of[task.name]
            at, scores = _points(of_metric[metric].get(task.name))
            values = np.array([schedule_score(metric, score) for score in scores])
            where = np.interp(at, np.append(0, steps), np.append(0, learned[:, index]))
            self._score_points.append(_rising(where, values, self.higher_is_better))
            at, values = _points(loss_curves.get(task.name))
            where = np.interp(at, np.append(0, steps), np.append(0, learned[:, index]))
            self._loss_points.append(_rising(where, values, False))
            best = float(self._score_points[-1][1][-1])
            baseline = task.baseline
            if baseline is None:
                baseline = best if best > 0 else 1.0
            infos.append(TaskInfo(task.name, task.size, baseline))
        self.tasks = tuple(infos)
        self.baseline_sources = tuple(RECORDED if t.baseline is None else GIVEN for t in tasks)

    def scores(self, learned: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Returns the recorded scores times the fraction that the present shares retain."""
        found = _interpolate(self._score_points, learned)
        kept = self._kept(share)
        if not self.higher_is_better:
            return found / np.maximum(kept, 1e-6)
        # Before the first score only the beginning is known, with a score of 0.
        first = np.array([points[0][0] for points in self._score_points])
        begin = np.where(first > 0, np.minimum(1, np.log1p(learned) / np.log1p(first + 1e-9)), 1.0)
        return found * kept * begin

    def losses(self, learned: np.ndarray, share: np.ndarray) -> np.ndarray:
        """The recorded loss."""
        return _interpolate(self._loss_points, learned) / np.maximum(self._kept(share), 1e-6)

    def held(self, learned: np.ndarray) -> np.ndarray:
        """Returns whether each task has learned more than in the recorded run, bool[N]."""
        return learned > np.array([points[0][-1] for points in self._score_points]) * (1 + 1e-9)

    def _kept(self, share: np.ndarray) -> np.ndarray:
        return self.settings.retained(share) / np.maximum(self.settings.retained(self._share), 1e-9)


def _points(curve: Curve | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the steps and values of a curve."""
    if not curve:
        raise DataError("the recorded run has a task that was never drawn or never scored")
    return np.array(list(curve), np.float64), np.array(list(curve.values()))


def _rising(
    learned: np.ndarray, values: np.ndarray, higher_is_better: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the points of a curve that never gets worse, one for each amount learned."""
    best = np.maximum.accumulate(values) if higher_is_better else np.minimum.accumulate(values)
    # Of several scores at one amount, the last is the best.
    last = np.append(np.diff(learned) > 0, True)
    return learned[last], best[last]


def _interpolate(points: Sequence[tuple[np.ndarray, np.ndarray]], at: np.ndarray) -> np.ndarray:
    place = np.log1p(at)
    return np.array(
        [np.interp(x, np.log1p(known), values) for x, (known, values) in zip(place, points)]  # noqa: B905
    )
