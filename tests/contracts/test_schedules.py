"""What every registered schedule must do.

One test follows the recipe of docs/how-to/extending.md literally.
"""

import io
import math
import pathlib
import re
import sys

import numpy as np
import pytest
import yaml

from keras_mtl.configuration import plugins
from keras_mtl.errors import CheckpointError, ConfigError
from keras_mtl.schedules import (
    ScoreBook,
    TaskInfo,
    available,
    create,
    parameters_of,
    pick,
    registry,
    sample,
    task_index_map,
    uniforms,
)

DOCS = pathlib.Path(__file__).parents[2] / "docs"
COUNTS = (1, 2, 3, 7, 64)
STEPS = (0, 1, 5, 10, 11, 30, 1000, 10**7)


def weights(names, shift=0):
    """A weight for each name that does not depend on its place in the list."""
    return {name: 1.0 + (7 * int(name[1:]) + shift) % 5 for name in names}


# What a schedule needs beside the tasks; one whose parameters all have defaults needs no line.
EXAMPLES = {
    "constant": lambda names: {"weights": weights(names)},
    "unimax": lambda names: {"budget": 3000.0 * len(names), "epochs": 2},
    "exponential": lambda names: {"alpha": 0.1, "p0": weights(names), "p1": weights(names, 2)},
    "sigmoid": lambda names: {"alpha": 0.1, "p0": weights(names), "p1": weights(names, 2)},
    "annealed": lambda names: {"steps_per_epoch": 3, "epochs": 4},
    "cooldown": lambda names: {"switch_step": 10},
    "sequential": lambda names: {"stages": [{"task": n, "steps": 3} for n in sorted(names)]},
    "piecewise": lambda names: {
        "stages": [
            {"name": "temperature", "parameters": {"temperature": 100}, "steps": 5},
            {"name": "inverse_ratio", "parameters": {"ema": 0.5, "max_change": 0.2}, "steps": 10},
            {"name": "implicit", "steps": 10},
            {"name": "bandit"},
        ]
    },
    "excess_loss": lambda names: {"reference_losses": weights(names)},
    "dynamic_temperature": lambda names: {"steps_per_epoch": 3},
    # With little data, fits begin early.
    "pike": lambda names: {"zeta1": 0.5, "zeta2": 0.1},
    "aioli": lambda names: {"lp_rounds": 1, "lp_steps": 5, "start": 5},
    "ado": lambda names: {"start": 1, "refit": 10},
    "dro_mt": lambda names: {"reference_losses": weights(names), "ema": 0.5},
}
# Follows the order of the list by design.
ORDERED = {"round_robin"}


def make_tasks(count):
    """Tasks of very different sizes, one of them empty when there are enough."""
    return [
        TaskInfo(f"t{i}", 0 if i == 5 else 10 + 37 * i**3, baseline=0.2 + 0.1 * (i % 5))
        for i in range(count)
    ]


def make(name, tasks, **more):
    parameters = EXAMPLES.get(name, lambda names: {})([task.name for task in tasks])
    return create(name, tasks, **{**parameters, **more})


def value(name, step, salt=0):
    """A number in [0, 1) that depends on the task's name and the step alone."""
    return float(uniforms(int(name[1:]) + 1000 * salt, step, 1)[0])


def play(schedule, tasks, until, state=None, book=None, start=0):
    """Updates at every 5th step with losses and scores; the first task never gets a score."""
    state = schedule.init() if state is None else state
    book = ScoreBook(tasks) if book is None else book
    for step in range(start, until):
        p = schedule.probabilities(step, state)
        for i, task in enumerate(tasks):
            if p[i] > 0:
                book.observe(i, step, 5 * value(task.name, step), p[i], weight=p[i])
        if (step + 1) % 5 == 0:
            for i, task in enumerate(tasks):
                if task.name != "t0":
                    book.set(i, step + 1, 0.8 * value(task.name, step, salt=1))
            if schedule.measures:
                values = np.array([value(task.name, step, salt=2) for task in tasks])
                names = (schedule.measures.quantity, "gradient_square", "gradient_variance")
                book.measure(dict.fromkeys(names, values), step + 1)
            state = schedule.update(state, step + 1, book)
    return state, book


def assert_valid(schedule, state, steps=STEPS):
    n = schedule.num_tasks
    for step in steps:
        p, w = schedule.probabilities(step, state), schedule.scales(step, state)
        for array in (p, w):
            assert array.shape == (n,)
            assert array.dtype == np.float64
            assert np.isfinite(array).all()
            assert array.min() >= 0
        assert abs(p.sum() - 1) < 1e-12
        assert abs(w.mean() - 1) < 1e-12
        assert schedule.scaling or (w == 1).all(), "`scaling = True` is missing"
    for key, array in state.items():
        assert isinstance(array, np.ndarray), key
        assert array.dtype in (np.float64, np.int64), key
        assert array.ndim == 0 or array.shape[0] == n, f"{key} needs a leading axis of tasks"


def assert_equal_states(left, right):
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)
        assert left[key].dtype == right[key].dtype


def through_file(state):
    """What a checkpoint does to a state."""
    file = io.BytesIO()
    np.savez(file, **{key.replace("/", "|"): value for key, value in state.items()})
    file.seek(0)
    with np.load(file) as loaded:
        return {key.replace("|", "/"): loaded[key] for key in loaded.files}


def check_distribution(name):
    """Probabilities sum to 1, scales average 1, for every N, before, while and after adapting."""
    for count in COUNTS:
        tasks = make_tasks(count)
        schedule = make(name, tasks)
        state = schedule.init()
        assert_valid(schedule, state)
        for until in (5, 10, 30):
            state, _ = play(schedule, tasks, until)
            assert_valid(schedule, state)


def check_permutation(name):
    """Another order of the tasks gives the same numbers in that order."""
    for count in (2, 7, 64):
        tasks = make_tasks(count)
        order = np.random.default_rng(count).permutation(count)
        shuffled = [tasks[i] for i in order]
        one, two = make(name, tasks), make(name, shuffled)
        state_one, _ = play(one, tasks, 25)
        state_two, _ = play(two, shuffled, 25)
        if name in ORDERED:
            cycle = range(10 * count, 11 * count)
            mean_one = np.mean([one.probabilities(t, state_one) for t in cycle], axis=0)
            mean_two = np.mean([two.probabilities(t, state_two) for t in cycle], axis=0)
            np.testing.assert_allclose(mean_one[order], mean_two, atol=1e-12)
            continue
        for step in STEPS:
            p, q = one.probabilities(step, state_one), two.probabilities(step, state_two)
            np.testing.assert_allclose(p[order], q, rtol=1e-8, atol=1e-12)
            p, q = one.scales(step, state_one), two.scales(step, state_two)
            np.testing.assert_allclose(p[order], q, rtol=1e-8)


def check_purity(name):
    """The update leaves its arguments alone, has no hidden memory, and does nothing twice."""
    tasks = make_tasks(7)
    schedule = make(name, tasks)
    global_generator = np.random.get_state()[1].copy()  # noqa: NPY002 must not be touched
    state, book = play(schedule, tasks, 14)
    sample(1, 14, schedule.probabilities(14, state))
    np.testing.assert_array_equal(np.random.get_state()[1], global_generator)  # noqa: NPY002
    copy = {key: array.copy() for key, array in state.items()}
    book_copy = {key: array.copy() for key, array in book.state_dict().items()}
    book.set(2, 15, 0.123)
    first = schedule.update(state, 15, book)
    second = make(name, tasks).update(state, 15, book)
    assert_equal_states(state, copy)
    assert_equal_states(first, second)
    assert first is not state
    assert_equal_states(schedule.update(first, 16, book), first)  # nothing new in the book
    del book_copy["scores"], book_copy["steps"], book_copy["counts"]
    now = book.state_dict()
    assert_equal_states({key: now[key] for key in book_copy}, book_copy)  # only set() changed it
    if not schedule.adaptive:
        assert_equal_states(first, state)


def check_restart(name):
    """Saved, loaded and gone on with at any step: the same draws and the same state."""
    tasks = make_tasks(7)
    seed, end = 11, 40

    def draws(schedule, state, steps):
        return [sample(seed, t, schedule.probabilities(t, state)) for t in steps]

    whole, _ = play(make(name, tasks), tasks, end)
    for stop in (0, 3, 5, 17, 30):
        state, book = play(make(name, tasks), tasks, stop)
        fresh = make(name, tasks)
        loaded = fresh.remap(through_file(state), np.arange(7))
        assert_equal_states(loaded, state)
        book = ScoreBook.from_state(tasks, through_file(book.state_dict()))
        steps = range(stop, stop + 20)
        assert draws(fresh, loaded, steps) == draws(make(name, tasks), state, steps)
        resumed, _ = play(fresh, tasks, end, loaded, book, start=stop)
        assert_equal_states(resumed, whole)


def check_scores(name):
    """No score at all, zero scores, scores above the baseline, in both directions."""
    tasks = make_tasks(7)
    for higher in (True, False):
        for given in (0.0, 1e-300, 0.4, 0.6, 100.0, 1e300):
            schedule = make(name, tasks)
            book = ScoreBook(tasks, higher_is_better=higher)
            state = schedule.update(schedule.init(), 5, book)  # empty book
            assert_valid(schedule, state)
            book.set(1, 6, given)
            state = schedule.update(state, 6, book)
            assert_valid(schedule, state)
            for i in range(7):
                book.set(i, 7, given)
                book.observe(i, 7, min(given, 1e6), 0.1)
            state = schedule.update(state, 7, book)
            assert_valid(schedule, state)


def check_floor(name):
    """No task is below the floor at any time, 1/N is uniform, more than that is refused."""
    for count in (1, 2, 7, 64):
        tasks = make_tasks(count)
        for floor in (0.3 / count, 1 / count):
            schedule = make(name, tasks, floor=floor)
            for until in (0, 5, 30):
                state, _ = play(schedule, tasks, until)
                assert_valid(schedule, state)
                for step in STEPS:
                    p = schedule.probabilities(step, state)
                    assert p.min() >= floor * (1 - 1e-9)
                    if floor == 1 / count:
                        np.testing.assert_allclose(p, 1 / count)
        with pytest.raises(ConfigError, match=r"floor = .* must be in \[0, 1/"):
            make(name, tasks, floor=1.1 / count)
        with pytest.raises(ConfigError, match="floor"):
            make(name, tasks, floor=-0.1)


def check_remap(name):
    """Tasks come, go and move: the state stays valid and known tasks keep what they had."""
    tasks = make_tasks(7)
    schedule = make(name, tasks)
    state, book = play(schedule, tasks, 20)
    names = [task.name for task in tasks]
    later = [tasks[3], TaskInfo("t9", 500, baseline=0.5), tasks[6], tasks[1]]
    later_names = [task.name for task in later]
    index_map = task_index_map(names, later_names)
    np.testing.assert_array_equal(index_map, [3, -1, 6, 1])
    changed = make(name, later)
    moved = changed.remap(through_file(state), index_map)
    assert_valid(changed, moved)
    assert moved.keys() == changed.init().keys()
    new_book = ScoreBook.from_state(later, book.state_dict(), index_map)
    assert new_book.scores[0] == book.scores[3]
    assert math.isnan(new_book.scores[1])
    state, _ = play(changed, later, 40, moved, new_book, start=20)
    assert_valid(changed, state)
    # All tasks replaced, and the state of a schedule of another kind.
    others = [TaskInfo("t20", 5, baseline=1.0), TaskInfo("t21", 9, baseline=1.0)]
    replaced = make(name, others)
    assert_valid(replaced, replaced.remap(state, np.array([-1, -1])))
    other = make("bandit", tasks)
    assert_valid(schedule, schedule.remap(play(other, tasks, 20)[0], np.arange(7)))
    long_map = np.array([0, 1, 2, 3, 4, 5, 9])
    if any(array.ndim for array in schedule.init().values()):
        with pytest.raises(CheckpointError, match="damaged"):
            schedule.remap(play(schedule, tasks, 5)[0], long_map)


def check_draws(name):
    """A million draws match the probabilities, and tasks of probability 0 are never drawn."""
    tasks = make_tasks(7)
    schedule = make(name, tasks)
    p = schedule.probabilities(21, play(schedule, tasks, 21)[0])
    counts = np.bincount(pick(p, uniforms(5, 21, 1_000_000)), minlength=7)
    assert_chi_square(counts, p)
    schedule = make(name, tasks, floor=0.01)
    p = schedule.probabilities(21, play(schedule, tasks, 21)[0])
    counts = np.bincount(pick(p, uniforms(6, 21, 1_000_000)), minlength=7)
    assert_chi_square(counts, p)
    assert counts.min() > 9_500  # no task starves


def assert_chi_square(counts, probabilities):
    expected = probabilities * counts.sum()
    assert counts[probabilities == 0].sum() == 0
    drawn = expected > 0
    freedom = drawn.sum() - 1
    statistic = ((counts - expected)[drawn] ** 2 / expected[drawn]).sum()
    # Five standard deviations of chi-square, and a little for few degrees of freedom.
    assert statistic <= freedom + 5 * math.sqrt(2 * freedom) + 10 * (freedom > 0) + 1e-6


def check_parameters(name):
    """Unknown parameters name the nearest, missing ones are named, defaults are in range."""
    tasks = make_tasks(3)
    with pytest.raises(ConfigError, match=r"no parameter 'flor'; did you mean 'floor'\?"):
        make(name, tasks, flor=0.1)
    for key, parameter in parameters_of(name).items():
        if parameter.default is parameter.empty:
            with pytest.raises(ConfigError, match="needs the parameter"):
                create(name, tasks)
        else:
            make(name, tasks, **{key: parameter.default})
    with pytest.raises(ConfigError, match="empty"):
        create(name, [], **EXAMPLES.get(name, lambda names: {})(["t0"]))
    with pytest.raises(ConfigError, match="two tasks have the name 't0'"):
        create(name, [tasks[0], tasks[0]], **EXAMPLES.get(name, lambda names: {})(["t0"]))


CHECKS = [
    check_distribution,
    check_permutation,
    check_purity,
    check_restart,
    check_scores,
    check_floor,
    check_remap,
    check_draws,
    check_parameters,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", available())
def test_contract(name, check):
    check(name)


def test_every_schedule_is_tested_and_none_is_missing():
    assert set(available()) >= {
        *("uniform", "proportional", "temperature", "constant", "unimax"),
        *("exponential", "sigmoid", "annealed", "cooldown"),
        *("round_robin", "sequential", "piecewise"),
        *("inverse_ratio", "simple_adaptive", "bandit", "excess_loss", "implicit"),
        *("dynamic_temperature", "ado", "dro_mt", "multi_uat", "multi_dds_s", "pike", "aioli"),
    }
    assert set(EXAMPLES) <= set(available())


@pytest.mark.parametrize("baseline", [0, -1.0, math.nan, math.inf])
def test_baseline_must_be_positive(baseline):
    with pytest.raises(ConfigError, match=r"task 'en-fr': baseline = .* > 0"):
        TaskInfo("en-fr", 10, baseline=baseline)


@pytest.mark.parametrize("name", ["inverse_ratio", "simple_adaptive", "implicit"])
def test_missing_baseline_is_refused_before_training(name):
    with pytest.raises(ConfigError, match="task 'en-de' has no baseline"):
        create(name, [TaskInfo("en-fr", 10, 0.3), TaskInfo("en-de", 10)])


def test_unknown_schedule_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'inverse_ratio'"):
        create("inverse_ration", make_tasks(2))


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_recipe_of_the_documentation(tmp_path, monkeypatch):
    """docs/how-to/extending.md: the module that it shows is a plug-in that passes all checks."""
    text = (DOCS / "how-to/extending.md").read_text()
    section = text.split("## Plug-ins")[1].split("\n## ")[0]
    (tmp_path / "my_schedules.py").write_text(blocks(section, "python")[0])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(registry.SCHEDULES, "classes", dict(registry.SCHEDULES.classes))
    before = set(available())
    try:
        plugins.load([f"{tmp_path}/my_schedules"])
        (name,) = set(available()) - before
        snippet = yaml.safe_load(blocks(section, "yaml")[0])
        assert "my_schedules" in snippet["imports"]
        schedule = snippet["trainer"]["schedule"]
        assert schedule["name"] == name
        monkeypatch.setitem(EXAMPLES, name, lambda names: schedule["parameters"])
        for check in CHECKS:
            check(name)
    finally:
        sys.modules.pop("my_schedules", None)


def test_every_snippet_of_the_documentation_is_accepted():
    """docs/reference/schedules.md: each schedule has a YAML snippet, and it works."""
    tasks = [TaskInfo("en-fr", 40_000_000, 38.0), TaskInfo("en-de", 1_000_000, 24.0)]
    shown = set()
    for text in blocks((DOCS / "reference/schedules.md").read_text(), "yaml"):
        config = yaml.safe_load(text)["trainer"]["schedule"]
        schedule = create(config["name"], tasks, **config.get("parameters", {}))
        assert_valid(schedule, schedule.init())
        shown.add(config["name"])
    assert shown == set(available())
