"""The scores of a model's settings, and their differences to a temperature and to baselines."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keras_mtl.events import Curve
from keras_mtl.metrics import higher_is_better
from keras_mtl.report.groups import Group, Mean, mean
from keras_mtl.report.runs import Run
from keras_mtl.report.sweep.costs import Clock, over_seconds, read_clock
from keras_mtl.report.sweep.curve_distance import above_curve
from keras_mtl.report.sweep.differences import (
    ALL,
    HIGH,
    LOW,
    Bootstrap,
    Difference,
    Parts,
    test_mean,
    with_seeds_of,
)
from keras_mtl.report.sweep.families import family_of, temperature_of
from keras_mtl.report.sweep.files import Model, Sweep


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of a setting.

    Attributes:
        group: its runs.
        family: its family.
        temperature: its temperature, if it has one.
        scores: test scores by metric and part.
        tasks: test scores by task, of the main metric.
        last_tenth: change of the mean dev score in the last tenth of training; None if not known.
        tokens: target tokens of a run; None if they were not logged.
        steps: steps of a run.
        clocks: the clock of each run that has one.
        at_seconds: dev scores by part when the budget of seconds is spent; empty if not known.
        above_curve: difference of low-resource scores to the temperature curve at an equal
            high-resource score; None for a temperature, and outside of the curve.
        against_temperature: differences to the best temperature, by part and by task.
        against_baselines: differences to the single-task models, by part and by task.
        beats_temperature: whether it is clearly better than the best temperature on low-resource
            tasks, and not significantly worse on high-resource tasks; None if not compared.
    """

    group: Group
    family: str
    temperature: float | None
    scores: Mapping[str, Mapping[str, Mean]]
    tasks: Mapping[str, Mean]
    last_tenth: float | None
    tokens: float | None
    steps: int
    clocks: Mapping[str, Clock]
    at_seconds: Mapping[str, Mean] = dataclasses.field(default_factory=dict)
    above_curve: Difference | None = None
    against_temperature: Mapping[str, Difference] = dataclasses.field(default_factory=dict)
    against_baselines: Mapping[str, Difference] = dataclasses.field(default_factory=dict)
    beats_temperature: bool | None = None

    @property
    def name(self) -> str:
        """Name of the setting."""
        return self.group.label

    @property
    def seconds(self) -> float | None:
        """Mean seconds of a run; None if not known."""
        totals = [clock.total for clock in self.clocks.values()]
        return statistics.fmean(totals) if totals else None


@dataclasses.dataclass(frozen=True)
class ModelScores:
    """The settings of a model.

    Attributes:
        model: the model.
        metric: the metric of the test scores that are compared.
        dev_metric: the metric that drove the schedules, of the dev scores.
        parts: the tasks by part.
        settings: the settings, in the order of the sweep.
        best_temperature: name of the temperature with the best mean dev score; empty if none.
        baselines: test scores of the single-task models by part and by task.
        budget: seconds of the fastest setting, for `Setting.at_seconds`; None if not known.
    """

    model: Model
    metric: str
    dev_metric: str
    parts: Parts
    settings: tuple[Setting, ...]
    best_temperature: str
    baselines: Mapping[str, float]
    budget: float | None


def score_model(
    sweep: Sweep, model: Model, samples: int = 1000, log: Callable[[str], None] | None = None
) -> ModelScores:
    """Returns the scores of a model's settings.

    Args:
        sweep: the sweep.
        model: one of its models.
        samples: number of bootstrap resamples; 0 skips the tests.
        log: function that is called with lines on the progress.
    """
    first = model.settings[0].runs[0]
    dev_metric = first.metric
    # The metric of validation may be one that the test sets were not scored by, as perplexity.
    metric = next(name for name in (dev_metric, "chrf", *first.test) if name in first.test)
    both = (*sweep.high_resource, *sweep.low_resource)
    parts = {HIGH: sweep.high_resource, LOW: sweep.low_resource, ALL: tuple(dict.fromkeys(both))}
    settings = [_setting(group, metric, dev_metric, parts) for group in model.settings]
    totals = [setting.seconds for setting in settings if setting.seconds is not None]
    budget = min(totals) if totals else None
    best = _best_temperature(settings, dev_metric, parts[ALL])
    bootstrap = Bootstrap(metric, samples)
    reference = next((setting.group for setting in settings if setting.name == best), None)
    curve = [setting.group for setting in temperature_curve(settings, metric)]
    single = [Group(task, (run,)) for task, run in model.baselines.items()]
    finished = []
    for setting in settings:
        if log and samples and len(settings) > 1:
            log(f"testing {setting.name}")
        against_temperature, against_baselines = {}, {}
        if reference is not None and reference is not setting.group:
            others = dict.fromkeys(parts[ALL], with_seeds_of(reference, setting.group))
            against_temperature = bootstrap.differences(setting.group, others.get, parts)
        if single:
            found = {group.label: group for group in single}
            against_baselines = bootstrap.differences(setting.group, found.get, parts)
        finished.append(
            dataclasses.replace(
                setting,
                at_seconds=_at_seconds(setting, dev_metric, parts, budget),
                above_curve=None
                if setting.temperature is not None
                else above_curve(setting.group, curve, metric, parts, bootstrap),
                against_temperature=against_temperature,
                against_baselines=against_baselines,
                beats_temperature=_beats(against_temperature, metric),
            )
        )
    return ModelScores(
        model=model,
        metric=metric,
        dev_metric=dev_metric,
        parts=parts,
        settings=tuple(finished),
        best_temperature=best,
        baselines=_baselines(model, metric, parts),
        budget=budget,
    )


def temperature_curve(settings: Sequence[Setting], metric: str) -> list[Setting]:
    """Returns the settings with a temperature and scores, by temperature."""
    found = [s for s in settings if s.temperature is not None and len(s.scores[metric]) == 3]
    return sorted(found, key=lambda setting: setting.temperature or 0.0)


def dev_curve(run: Run, metric: str, tasks: Sequence[str]) -> Curve:
    """Returns the mean dev score over tasks, at the steps at which all were validated."""
    curves = [run.scores.get(metric, {}).get(task, {}) for task in tasks]
    if not curves:
        return {}
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    return {step: statistics.fmean(curve[step] for curve in curves) for step in steps}


def _setting(group: Group, metric: str, dev_metric: str, parts: Parts) -> Setting:
    first = group.runs[0]
    scores: dict[str, dict[str, Mean]] = {metric: {}}
    for name in dict.fromkeys((metric, *(m for run in group.runs for m in run.test))):
        found = {part: _mean_of(group, name, own) for part, own in parts.items()}
        scores[name] = {part: value for part, value in found.items() if value is not None}
    tasks = {task: value for task in parts[ALL] if (value := group.test(metric, task))}
    clocks = {str(run.directory): timed for run in group.runs if (timed := read_clock(run))}
    tokens = [sum(run.tokens.values()) for run in group.runs if run.tokens]
    last = [_last_tenth(run, dev_metric, parts[ALL]) for run in group.runs]
    changes = [change for change in last if change is not None]
    return Setting(
        group=group,
        family=family_of(first),
        temperature=temperature_of(first),
        scores=scores,
        tasks=tasks,
        last_tenth=statistics.fmean(changes) if changes else None,
        tokens=statistics.fmean(tokens) if tokens else None,
        steps=max(run.last_step for run in group.runs),
        clocks=clocks,
    )


def _mean_of(group: Group, metric: str, tasks: Sequence[str]) -> Mean | None:
    return group.mean_of(lambda run: test_mean(run, metric, tasks))


def _last_tenth(run: Run, metric: str, tasks: Sequence[str]) -> float | None:
    curve = dev_curve(run, metric, tasks)
    if len(curve) < 2:
        return None
    steps, values = np.array(list(curve)), np.array(list(curve.values()))
    return float(values[-1] - np.interp(0.9 * steps[-1], steps, values))


def _best_temperature(settings: Sequence[Setting], metric: str, tasks: Sequence[str]) -> str:
    """Returns the temperature that a user would choose, who has only dev scores."""
    sign = 1 if higher_is_better(metric) else -1
    found = []
    for setting in settings:
        if setting.temperature is None:
            continue
        curves = [curve for r in setting.group.runs if (curve := dev_curve(r, metric, tasks))]
        bests = [max(sign * value for value in curve.values()) for curve in curves]
        if bests:
            found.append((statistics.fmean(bests), setting.name))
    return max(found)[1] if found else ""


def _at_seconds(
    setting: Setting, metric: str, parts: Parts, budget: float | None
) -> dict[str, Mean]:
    """Returns the dev scores when a budget is spent; runs that end before count with their last."""
    found = {}
    for part, tasks in parts.items():
        values = []
        for run in setting.group.runs:
            timed = setting.clocks.get(str(run.directory))
            curve = dev_curve(run, metric, tasks)
            if timed and curve and budget is not None:
                values.append(float(np.interp(budget, *over_seconds(curve, timed))))
        average = mean(values)
        if average is not None:
            found[part] = average
    return found


def _beats(differences: Mapping[str, Difference], metric: str) -> bool | None:
    """Returns whether a setting beats the best temperature; see `Setting.beats_temperature`."""
    if HIGH not in differences or LOW not in differences:
        return None
    high, low = differences[HIGH], differences[LOW]
    sign = 1 if higher_is_better(metric) else -1
    return low.clear and sign * low.value > 0 and not (high.significant and sign * high.value < 0)


def _baselines(model: Model, metric: str, parts: Parts) -> dict[str, float]:
    found = {
        task: value
        for task, run in model.baselines.items()
        if (value := run.test.get(metric, {}).get(task)) is not None
    }
    means = {
        part: statistics.fmean(found[task] for task in tasks)
        for part, tasks in parts.items()
        if tasks and all(task in found for task in tasks)
    }
    return {**means, **found}


def shown_temperature(value: float) -> str:
    """Returns text such as `T = 5`, or `T = ∞` for uniform."""
    return "T = ∞" if math.isinf(value) else f"T = {value:g}"
