"""Plays a schedule on learning curves, one interval between validations at a time."""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np

from keras_mtl.errors import ConfigError, nearest
from keras_mtl.schedules import Piecewise, RoundRobin, Schedule, ScoreBook, Sequential, State
from keras_mtl.simulation.curves import Curves

DRAWS = ("expected", "random", "blend")

# Places at which a span of steps is sampled, relative to its length: irregular, to catch periodic
# changes.
_PROBES = np.array([0.0, 0.09, 0.21, 0.38, 0.5, 0.66, 0.83, 0.93, 1.0])
_TOLERANCE = 1e-5
# Shorter spans are summed step by step.
_EXACT_STEPS = 16


@dataclasses.dataclass(frozen=True)
class PlaySettings:
    """Settings of a simulation.

    Attributes:
        steps: number of batches to draw, >= 1.
        interval: steps between validations; 0 validates only at the end.
        draws: `expected` (each task gets its expected, fractional number of batches), `random`
            (multinomial counts, with the distribution of the trainer's random draws), or `blend`
            (whole batches; each task is within one batch of its share).
        seed: seed of random draws and of noise.
        noise: standard deviation of a validation score relative to the task's baseline, >= 0.
        points: smallest number of points in time of the result, >= 1.
        batches_per_step: number of batches of a training step, >= 1; the interval of a schedule
            that learns from losses is in training steps.

    Raises:
        ConfigError: a value is out of range.
    """

    steps: int
    interval: int = 1000
    draws: str = "expected"
    seed: int = 1
    noise: float = 0.0
    points: int = 300
    batches_per_step: int = 1

    def __post_init__(self) -> None:
        if min(self.steps, self.points, self.batches_per_step) < 1 or self.interval < 0:
            raise ConfigError(
                f"steps = {self.steps}, points = {self.points} and batches_per_step = "
                f"{self.batches_per_step} must be >= 1, interval = {self.interval} >= 0"
            )
        if self.draws not in DRAWS:
            raise ConfigError(f"draws = {self.draws!r} is unknown{nearest(self.draws, DRAWS)}")
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise ConfigError(f"noise = {self.noise} must be >= 0 (0.02 is 2 % of the baseline)")


@dataclasses.dataclass(frozen=True)
class Simulation:
    """The result of a simulation at K points in time, for N tasks.

    Attributes:
        steps: int64[K], number of batches drawn before each point, increasing; the last one is the
            total.
        probabilities: float64[K, N], mean over the about steps / points steps that follow.
        scales: float64[K, N], factors of the updates.
        scores: float64[K, N], scores without noise, in the unit of the baselines.
        ratios: float64[K, N], score / baseline, or baseline / score if lower is better.
        batches: float64[K, N], batches drawn so far; whole numbers unless draws are `expected`.
        passes: float64[N], how often each example was drawn.
        held: bool[N], whether the curve was used beyond its last known point.
    """

    steps: np.ndarray
    probabilities: np.ndarray
    scales: np.ndarray
    scores: np.ndarray
    ratios: np.ndarray
    batches: np.ndarray
    passes: np.ndarray
    held: np.ndarray


def simulate(
    schedule: Schedule, curves: Curves, rows: np.ndarray, settings: PlaySettings
) -> Simulation:
    """Plays a schedule on learning curves.

    Args:
        schedule: a schedule of `curves.tasks`.
        curves: the learning curves of the tasks.
        rows: float64[N], number of examples of a batch of each task.
        settings: settings of the simulation.

    Returns:
        The result. The same arguments give the same numbers.

    Raises:
        ConfigError: the schedule is for other tasks, or measures the model.
    """
    if schedule.tasks != curves.tasks:
        raise ConfigError(
            "the schedule was made for other tasks than the curves; make it for curves.tasks"
        )
    if schedule.measures is not None:
        raise ConfigError(
            f"the schedule {schedule.name!r} measures the model, which a simulation does not have; "
            "simulate other schedules"
        )
    player = _Player(schedule, curves, np.asarray(rows, np.float64), settings)
    return player.play()


class _Player:
    def __init__(
        self, schedule: Schedule, curves: Curves, rows: np.ndarray, settings: PlaySettings
    ) -> None:
        self.schedule, self.curves, self.rows, self.settings = schedule, curves, rows, settings
        count = schedule.num_tasks
        self.state = schedule.init()
        self.book = ScoreBook(curves.tasks, curves.higher_is_better)
        self.batches = np.zeros(count)
        self.learned = np.zeros(count)
        self.useful = np.zeros(count)
        self.credit = np.zeros(count)
        self.recent = np.zeros(count)
        self.recent_weight = 0.0
        # In whole rounds, so that round robin looks even.
        self.stretch = -(-settings.steps // (settings.points * count)) * count
        self.memory = curves.settings.memory or max(1.0, settings.steps / 20)
        self.held = np.zeros(count, bool)

    def play(self) -> Simulation:
        steps, interval = self.settings.steps, self.settings.interval
        validations = np.append(np.arange(interval, steps, interval), steps) if interval else steps
        grid = np.linspace(0, steps, min(self.settings.points, steps) + 1).astype(np.int64)
        learns = self.schedule.interval * self.settings.batches_per_step
        updates = np.arange(learns, steps, learns) if learns else np.array([], np.int64)
        stops = np.union1d(np.union1d(validations, grid[1:]), updates)
        due = np.isin(stops, validations)
        # If there are many validations, only this number of points is kept.
        keep = np.isin(stops, grid) | (due & (np.size(validations) <= self.settings.points))
        moments = [(0, *self._now(0))]
        start = 0
        for stop, validates, kept in zip(stops.tolist(), due, keep, strict=True):
            self._advance(start, stop)
            self._follow(stop)
            if learns and stop % learns == 0:
                self.state = self.schedule.update(self.state, stop, self.book)
            if validates:
                self._validate(stop)
            if kept:
                moments.append((stop, *self._now(stop)))
            start = stop
        names = ("probabilities", "scales", "scores", "ratios", "batches")
        columns = list(zip(*moments, strict=True))
        sizes = np.maximum(self.schedule.sizes, 1)
        return Simulation(
            steps=np.array(columns[0], np.int64),
            **{name: np.array(column) for name, column in zip(names, columns[1:], strict=True)},
            passes=self.batches * self.rows / sizes,
            held=self.held,
        )

    def _advance(self, start: int, stop: int) -> None:
        probabilities = mean_probabilities(self.schedule, start, stop, self.state)
        counts = self._draw(probabilities, start, stop - start)
        scales = self.schedule.scales(start, self.state)
        self.batches = self.batches + counts
        useful = self.curves.settings.useful(self.batches * self.rows, self.schedule.sizes)
        self.learned = self.learned + scales * (useful - self.useful)
        self.useful = useful
        fade = math.exp(-(stop - start) / self.memory)
        # An average over `memory` steps, or over all steps so far if there are fewer.
        self.recent = fade * self.recent + (1 - fade) * scales * counts / (stop - start)
        self.recent_weight = fade * self.recent_weight + (1 - fade)
        if self.schedule.adaptive:
            drawn = (counts > 0) & (probabilities > 0)
            weight = np.where(drawn, counts, 0.0)
            losses = self.curves.losses(self.learned, self._share())
            inverse = weight / np.where(drawn, probabilities, 1.0)
            # Does the same as `ScoreBook.observe`, for all tasks at once.
            self.book.loss_weight += weight
            self.book.loss_sum += weight * losses
            self.book.inverse_probability += inverse
            self.book.loss_over_probability += inverse * losses

    def _follow(self, step: int) -> None:
        """Lets the schedule follow the passes; between two points in time it does not."""
        if self.schedule.uses_progress:
            epoch = np.maximum(self.schedule.sizes, 1) / self.rows
            self.state = self.schedule.advance(
                self.state, step, self.batches / epoch, (self.batches + 1) / epoch
            )

    def _share(self) -> np.ndarray:
        if self.recent_weight == 0:
            return np.full(len(self.recent), 1 / len(self.recent))
        share = self.recent / self.recent_weight
        return share / max(share.sum(), 1e-300)

    def _draw(self, probabilities: np.ndarray, start: int, count: int) -> np.ndarray:
        """Returns the number of batches of each task in `count` steps, float64[N]."""
        if self.settings.draws == "expected" or isinstance(self.schedule, RoundRobin):
            return probabilities * count  # Round robin leaves nothing to draw.
        if self.settings.draws == "random":
            return self._generator(start, 0).multinomial(count, probabilities).astype(np.float64)
        # Like `blend` after the same number of steps: every task is within one batch of its share.
        credit = self.credit + probabilities * count
        counts = np.where(probabilities > 0, np.maximum(np.floor(credit), 0.0), 0.0)
        short = round(count - counts.sum())
        order = np.argsort(-np.where(probabilities > 0, credit - counts, -np.inf), kind="stable")
        if short > 0:
            counts[order[:short]] += 1
        elif short < 0:  # Some task was ahead: those that are least behind wait.
            waiting = order[::-1][counts[order[::-1]] > 0]
            counts[waiting[:-short]] -= 1
        self.credit = credit - counts
        return counts

    def _validate(self, step: int) -> None:
        if not self.schedule.adaptive:
            return
        scores = self._scores()
        if self.settings.noise:
            noise = self._generator(step, 1).standard_normal(len(scores))
            scores = np.maximum(scores + noise * self.settings.noise * self.book.baselines, 0.0)
        # Does the same as `ScoreBook.set`, for all tasks at once.
        self.book.scores[:] = scores
        self.book.steps[:] = step
        self.book.counts += 1
        self.state = self.schedule.update(self.state, step, self.book)

    def _generator(self, step: int, purpose: int) -> np.random.Generator:
        key = [self.settings.seed & ((1 << 64) - 1), 2 * step + purpose]
        return np.random.Generator(np.random.Philox(key=np.array(key, np.uint64)))

    def _scores(self) -> np.ndarray:
        return self.curves.scores(self.learned, self._share())

    def _now(self, step: int) -> tuple[np.ndarray, ...]:
        book = ScoreBook(self.curves.tasks, self.curves.higher_is_better)
        scores = self._scores()
        book.scores[:] = scores
        self.held = self.held | self.curves.held(self.learned)
        return (
            np.array(mean_probabilities(self.schedule, step, step + self.stretch, self.state)),
            np.array(self.schedule.scales(step, self.state)),
            scores,
            book.ratios(),
            self.batches.copy(),
        )


def mean_probabilities(schedule: Schedule, start: int, stop: int, state: State) -> np.ndarray:
    """Returns the mean of a schedule's probabilities over steps without an update.

    Stages are handled one by one. A span with constant probabilities is read once, and a smooth
    span is integrated by the trapezoid rule. Other spans are halved down to 16 steps, which are
    summed step by step.

    Args:
        schedule: the schedule.
        start: first step.
        stop: the step after the last one.
        state: state of the schedule.

    Returns:
        float64[N], sums to 1, accurate to about 1e-5.
    """
    if isinstance(schedule, RoundRobin) and schedule.floor == 0:
        turns = np.arange(schedule.num_tasks)
        counts = (stop - 1 - turns) // schedule.num_tasks - (
            start - 1 - turns
        ) // schedule.num_tasks
        return counts / (stop - start)
    if isinstance(schedule, Piecewise | Sequential):
        # The samples could miss a short stage.
        between = schedule.stages.bounds(start, stop, state)
        if between:
            bounds = [start, *between, stop]
            means = [
                (last - first) * mean_probabilities(schedule, first, last, state)
                for first, last in itertools.pairwise(bounds)
            ]
            return np.sum(means, axis=0) / (stop - start)
    if isinstance(schedule, Piecewise) and schedule.floor == 0:
        child, begin, state = schedule.stage(start, state)
        return mean_probabilities(child, start - begin, stop - begin, state)
    return _mean(lambda step: schedule.probabilities(step, state), start, stop)


def _mean(at: Callable[[int], np.ndarray], start: int, stop: int) -> np.ndarray:
    count = stop - start
    if count <= _EXACT_STEPS:
        return np.mean([at(step) for step in range(start, stop)], axis=0)
    first = at(start)
    probes = start + np.round(_PROBES * (count - 1)).astype(np.int64)
    values = np.array([first, at(start + 1), *(at(int(step)) for step in probes[1:])])
    if np.ptp(values, axis=0).max() < _TOLERANCE:
        return values.mean(axis=0)
    places = (probes - start) / (count - 1)
    smooth = values[[0, *range(2, len(values))]]
    fine = _integral(smooth, places)
    if np.abs(fine - _integral(smooth[::2], places[::2])).max() < _TOLERANCE:
        return fine / fine.sum()
    middle = (start + stop) // 2
    left, right = _mean(at, start, middle), _mean(at, middle, stop)
    return (left * (middle - start) + right * (stop - middle)) / count


def _integral(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Integrates values float64[P, N] at places float64[P] by the trapezoid rule."""
    return np.diff(places) @ (values[1:] + values[:-1]) / 2
