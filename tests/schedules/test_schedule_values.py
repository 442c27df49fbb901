"""Golden values, closed forms and the traps that other implementations fell into."""

import math

import numpy as np
import pytest

from keras_mtl.errors import ConfigError
from keras_mtl.schedules import ScoreBook, TaskInfo, create


def two(b0=1.0, b1=1.0, n0=10, n1=10):
    return [TaskInfo("a", n0, b0), TaskInfo("b", n1, b1)]


def after(schedule, scores, tasks, step=1, state=None):
    """State after one update with these scores (None: no score)."""
    book = ScoreBook(tasks)
    for task, score in enumerate(scores):
        if score is not None:
            book.set(task, step, score)
    return schedule.update(schedule.init() if state is None else state, step, book)


def p0(name, scores, tasks, **parameters):
    schedule = create(name, tasks, **parameters)
    return schedule.probabilities(1, after(schedule, scores, tasks))[0]


@pytest.mark.parametrize(
    ("name", "scores", "baselines", "alpha", "expected"),
    [
        ("inverse_ratio", (0.05, 0.25), (0.3, 0.5), 1, 0.7174),
        ("simple_adaptive", (0.05, 0.25), (0.3, 0.5), 1, 0.6163),
        ("inverse_ratio", (0.9, 1), (1, 1), 1, 0.525),
        ("inverse_ratio", (0.9, 1), (1, 1), 5, 0.621),
        ("simple_adaptive", (0.9, 1), (1, 1), 1, 0.750),
        ("simple_adaptive", (0.9, 1), (1, 1), 5, 0.902),
        ("inverse_ratio", (0, 1), (1, 1), 1, 0.9545),
        ("simple_adaptive", (0, 1), (1, 1), 1, 0.9545),
        ("inverse_ratio", (0.5, 1), (1, 1), 1, 0.656),
        ("inverse_ratio", (0.5, 1), (1, 1), 5, 0.928),
        ("simple_adaptive", (0.5, 1), (1, 1), 1, 0.917),
        ("simple_adaptive", (0.5, 1), (1, 1), 5, 0.953),
    ],
)
def test_golden_adaptive(name, scores, baselines, alpha, expected):
    result = p0(name, scores, two(*baselines), alpha=alpha, epsilon=0.05)
    digits = len(str(expected)) - 2
    assert round(result, max(3, digits)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "start", "steps"),
    [
        ("exponential", (0, 1), {0: 0.0, 10**5: 0.6321, 10**10: 1.0}),
        ("sigmoid", (0.5, 0.5), {0: 0.5, 10**5: 0.7311, 10**10: 1.0}),
    ],
)
def test_golden_over_time(name, start, steps):
    schedule = create(name, two(), alpha=1e-5, p0=start, p1={"a": 1, "b": 0})
    for step, expected in steps.items():
        assert schedule.probabilities(step, {})[0] == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ((0.5, 0.6), (1.080, 0.920)),
        ((0.6, 1), (1.447, 0.553)),
        ((1, 1), (1, 1)),
        ((0.05, 0.10), (1.002, 0.998)),
        ((0.9, 0.95), (1.143, 0.857)),
    ],
)
def test_golden_implicit(ratios, expected):
    schedule = create("implicit", two(), alpha=2.0, beta=0.5, gamma=0.9)
    state = after(schedule, ratios, two())
    np.testing.assert_allclose(schedule.scales(1, state), expected, atol=5e-4)
    np.testing.assert_array_equal(schedule.probabilities(1, state), [0.5, 0.5])


def test_implicit_factors_are_bounded_by_max_change_alone():
    tasks = [TaskInfo(name, 1, 1.0) for name in "abcd"]
    ratios = (1, 1, 1, 0.05)
    free = create("implicit", tasks)
    scales = free.scales(1, after(free, ratios, tasks))
    np.testing.assert_allclose(scales, free.factors(np.array(ratios)))
    assert scales[3] > 2  # A change of more than 1 from the factor 1 of the beginning.
    slow = create("implicit", tasks, max_change=0.25)
    assert slow.scales(1, after(slow, ratios, tasks))[3] == pytest.approx(1.25)


def test_implicit_goes_on_when_only_tasks_of_factor_0_stay():
    schedule = create("implicit", two(), gamma=1.0)
    state = after(schedule, (2.0, 0.5), two())
    assert schedule.scales(1, state)[0] == 0
    alone = create("implicit", two()[:1], gamma=1.0)
    assert alone.remap(state, np.array([0]))["scales"].tolist() == [1.0]


def test_golden_counts_of_lingvo():
    """Lingvo's own tests: 100 draws of NumPy's legacy generator, how many are of task a."""

    def count(probabilities):
        generator = np.random.RandomState(9885784)
        return sum(generator.choice(2, p=probabilities) == 0 for _ in range(100))

    tasks = two(0.3, 0.5)
    over_time = {"alpha": 1e-5, "p1": [1, 0]}
    exponential = create("exponential", tasks, p0=[0, 1], **over_time)
    sigmoid = create("sigmoid", tasks, p0=[0.5, 0.5], **over_time)
    steps = (0, 10**5, 10**10)
    assert count(create("constant", tasks, weights=[0.8, 0.2]).probabilities(0, {})) == 83
    assert [count(exponential.probabilities(step, {})) for step in steps] == [0, 63, 100]
    assert [count(sigmoid.probabilities(step, {})) for step in steps] == [54, 73, 100]
    for name, expected in (("simple_adaptive", 63), ("inverse_ratio", 71)):
        schedule = create(name, tasks)
        assert count(schedule.probabilities(1, after(schedule, (0.05, 0.25), tasks))) == expected


def test_golden_implicit_of_three_before_and_after_renormalizing():
    tasks = [TaskInfo(name, 1, 1.0) for name in "abc"]
    schedule = create("implicit", tasks)
    ratios = np.array([0.5, 0.8, 1.0])
    raw = schedule.ratio_weights(ratios)
    np.testing.assert_allclose(raw, (1.516, 0.817, 0.517), atol=5e-4)
    assert raw.sum() == pytest.approx(2.851, abs=5e-4)
    np.testing.assert_allclose(schedule.factors(ratios), raw * 3 / raw.sum())


def test_implicit_floor_holds_after_renormalizing():
    """Many laggards push the sum above N; dividing by it must not break the floor."""
    tasks = [TaskInfo(f"t{i}", 1, 1.0) for i in range(10)]
    schedule = create("implicit", tasks, gamma=0.5, alpha=0.0)
    ratios = np.array([0.2] * 9 + [3.0])
    raw = schedule.ratio_weights(ratios)
    assert raw.min() / raw.mean() < 0.5  # what plain renormalizing would give
    factors = schedule.factors(ratios)
    assert factors.min() == pytest.approx(0.5)
    assert factors.mean() == pytest.approx(1.0)


def test_golden_sequential_with_a_jump_over_stages():
    tasks = [TaskInfo(name, 1) for name in "abc"]
    stages = [{"task": "a", "steps": 8}, {"task": "b", "steps": 10}, {"task": "c", "steps": 2}]
    schedule = create("sequential", tasks, stages=stages)

    def at(step):
        return "abc"[int(schedule.probabilities(step, {}).argmax())]

    assert "".join(at(step) for step in (0, 2, 10, 17, 21)) == "aabbc"
    assert at(10**9) == "c"
    assert at(0) == "a"  # a function of the step, also backwards
    assert "".join(at(step) for step in (7, 8, 17, 18)) == "abbc"


def test_golden_temperature():
    tasks = two(n0=40_000_000, n1=1_000_000)
    assert create("temperature", tasks, temperature=1).probabilities(0, {})[0].round(4) == 0.9756
    assert create("temperature", tasks, temperature=5).probabilities(0, {})[0].round(4) == 0.6765
    capped = create("temperature", tasks, temperature=1, cap=1_000_000)
    np.testing.assert_array_equal(capped.probabilities(0, {}), [0.5, 0.5])
    extreme = create("temperature", tasks, temperature=1e-3)
    np.testing.assert_array_equal(extreme.probabilities(0, {}), [1, 0])


def test_unimax():
    tasks = [TaskInfo("large", 1000), TaskInfo("small", 10), TaskInfo("middle", 100)]
    # One pass over small, then the rest of the budget in halves, of which middle has too few.
    schedule = create("unimax", tasks, budget=510, epochs=1)
    np.testing.assert_allclose(schedule.weights(0, {}), [400, 10, 100])
    schedule = create("unimax", tasks, budget=510, epochs=5)
    np.testing.assert_allclose(schedule.weights(0, {}), [230, 50, 230])
    schedule = create("unimax", tasks, budget=1e9, epochs=2)  # more than there is: proportional
    np.testing.assert_allclose(schedule.probabilities(0, {}), np.array([1000, 10, 100]) / 1110)


def test_annealed_begins_proportional_and_is_clamped():
    """Model Garden counts epochs from 0 and so begins with an exponent above 1."""
    tasks = two(n0=100, n1=1)
    schedule = create("annealed", tasks, steps_per_epoch=10, epochs=5)
    exponents = [schedule.exponent(step) for step in (0, 9, 10, 40, 49, 50, 10**9)]
    np.testing.assert_allclose(exponents, [1, 1, 0.8, 0.2, 0.2, 0.2, 0.2])
    assert schedule.probabilities(0, {})[0] == pytest.approx(100 / 101)
    one = create("annealed", tasks, steps_per_epoch=10, epochs=1)
    assert one.exponent(0) == one.exponent(10**6) == 1


def test_cooldown_is_two_temperatures():
    tasks = two(n0=1000, n1=10)
    schedule = create("cooldown", tasks, switch_step=100)
    warm, cold = create("temperature", tasks), create("proportional", tasks)
    np.testing.assert_allclose(schedule.probabilities(99, {}), warm.probabilities(0, {}))
    np.testing.assert_allclose(schedule.probabilities(100, {}), cold.probabilities(0, {}))


def test_round_robin_follows_the_step():
    schedule = create("round_robin", [TaskInfo(name, 1) for name in "abc"])
    order = [int(schedule.probabilities(step, {}).argmax()) for step in (0, 1, 2, 3, 17, 3)]
    assert order == [0, 1, 2, 0, 2, 0]


def test_piecewise_children_see_their_own_time():
    tasks = two()
    child = {"alpha": 0.1, "p0": [1, 0], "p1": [0, 1]}
    schedule = create(
        "piecewise",
        tasks,
        stages=[
            {"name": "constant", "parameters": {"weights": {"a": 1, "b": 3}}, "steps": 4},
            {"name": "exponential", "parameters": child, "steps": 6},
            {"name": "inverse_ratio"},
        ],
    )
    alone = create("exponential", tasks, **child)
    state = schedule.init()
    np.testing.assert_allclose(schedule.probabilities(3, state), [0.25, 0.75])
    for step in (4, 5, 9):
        np.testing.assert_allclose(
            schedule.probabilities(step, state), alone.probabilities(step - 4, {})
        )
    # Scores in the stages before leave the adaptive child alone; those in its own reach it.
    early = after(schedule, (0.1, 0.9), tasks, step=9, state=state)
    np.testing.assert_allclose(schedule.probabilities(10, early), [0.5, 0.5])
    late = after(schedule, (0.1, 0.9), tasks, step=10, state=early)
    assert schedule.probabilities(10, late)[0] > 0.8
    np.testing.assert_allclose(schedule.probabilities(3, late), [0.25, 0.75])


def test_epsilon_zero_cannot_divide_by_zero():
    with pytest.raises(ConfigError, match=r"epsilon = 0 must be .*infinite weight"):
        create("inverse_ratio", two(), epsilon=0)
    assert p0("simple_adaptive", (0, 1), two(), epsilon=0) == 1


def test_missing_score_counts_as_zero_and_excess_over_the_baseline_is_capped():
    assert p0("inverse_ratio", (None, 1), two()) == pytest.approx(1.05 / 1.1)
    assert p0("inverse_ratio", (2.0, 1), two()) == 0.5
    assert p0("simple_adaptive", (7.0, 1), two()) == 0.5


def test_prior_multiplies():
    tasks = two(n0=300, n1=100)
    equal = p0("inverse_ratio", (1, 1), tasks, prior="proportional")
    assert equal == pytest.approx(0.75)
    schedule = create("inverse_ratio", tasks, prior="temperature", prior_temperature=2)
    np.testing.assert_allclose(
        schedule.probabilities(0, schedule.init()),
        create("temperature", tasks, temperature=2).probabilities(0, {}),
    )
    lagging = p0("simple_adaptive", (0, 1), tasks, prior="proportional")
    assert lagging == pytest.approx(3 * 1.05 / (3 * 1.05 + 0.05))
    with pytest.raises(ConfigError, match=r"prior = 'sizes' is not known; known: none, "):
        create("inverse_ratio", tasks, prior="sizes")


def test_ema_counts_the_first_score_in_full_and_then_averages():
    tasks = two()
    schedule = create("inverse_ratio", tasks, ema=0.75)
    book = ScoreBook(tasks)
    state = schedule.init()
    book.set(0, 10, 0.4)
    state = schedule.update(state, 10, book)
    np.testing.assert_allclose(state["ratios"], [0.4, 0])
    book.set(0, 20, 0.8)
    book.set(1, 20, 0.2)
    state = schedule.update(state, 20, book)
    np.testing.assert_allclose(state["ratios"], [0.75 * 0.4 + 0.25 * 0.8, 0.2])
    # The same score again is a new measurement; no new score is none.
    book.set(0, 30, 0.8)
    state = schedule.update(schedule.update(state, 30, book), 30, book)
    np.testing.assert_allclose(state["ratios"], [0.75 * 0.5 + 0.25 * 0.8, 0.2])


def test_a_new_score_book_does_not_count_as_scores_of_zero():
    tasks = two()
    schedule = create("inverse_ratio", tasks)
    state = after(schedule, (0.8, 0.4), tasks)
    book = ScoreBook(tasks)
    assert (schedule.update(state, 2, book)["ratios"] == state["ratios"]).all()
    book.set(1, 2, 0.5)
    np.testing.assert_allclose(schedule.update(state, 2, book)["ratios"], [0.8, 0.5])


def test_max_change_bounds_every_update_and_arrives():
    tasks = [TaskInfo(f"t{i}", 1, 1.0) for i in range(5)]
    schedule = create("simple_adaptive", tasks, max_change=0.05, floor=0.01)
    book = ScoreBook(tasks)
    state = schedule.init()
    before = schedule.probabilities(0, state)
    for step in range(1, 40):
        for task in range(5):
            book.set(task, step, 1.0 if task else 0.0)
        state = schedule.update(state, step, book)
        now = schedule.probabilities(step, state)
        assert np.abs(now - before).max() <= 0.05 + 1e-12
        assert now.min() >= 0.01 - 1e-12
        before = now
    np.testing.assert_allclose(now, [1.05 / 1.25, *[0.05 / 1.25] * 4], atol=1e-9)


def test_slow_scores_oscillate_less_with_max_change():
    """The known weakness of adaptive schedules: scores that lag behind the probabilities."""

    def swing(**parameters):
        tasks = two()
        schedule = create("simple_adaptive", tasks, alpha=5.0, **parameters)
        state, book = schedule.init(), ScoreBook(tasks)
        scores, history = np.array([0.9, 0.97]), []
        for step in range(1, 60):
            p = schedule.probabilities(step, state)
            history.append(p[0])
            scores = np.clip(scores + 0.5 * (p - 0.5), 0, 1)  # a favored task gains, one forgets
            for task in range(2):
                book.set(task, step, scores[task])
            state = schedule.update(state, step, book)
        return np.abs(np.diff(history[20:])).mean()

    assert swing() > 0.5  # from one task to the other and back, for ever
    assert swing(max_change=0.05) < 0.1
    assert swing(ema=0.8) < 0.3


def test_bandit_matches_the_paper_batch_by_batch():
    """One update a batch is ODM's rule, written out here with plain loops."""
    tasks = [TaskInfo(name, 1) for name in "abc"]
    schedule = create("bandit", tasks)
    state, book = schedule.init(), ScoreBook(tasks)
    p, reward, epsilon = [1 / 3] * 3, [0.0] * 3, 1 / 3
    generator = np.random.default_rng(0)
    for step in range(1, 50):
        task, loss = int(generator.integers(3)), float(generator.uniform(1, 6))
        book.observe(task, step, loss, schedule.probabilities(step, state)[task])
        state = schedule.update(state, step, book)
        reward[task] += loss / 10 / p[task]
        previous, epsilon = epsilon, min(1 / 3, math.sqrt(math.log(3) / (3 * step)))
        exponentials = [math.exp(previous * r) for r in reward]
        p = [(1 - 3 * epsilon) * e / sum(exponentials) + epsilon for e in exponentials]
        np.testing.assert_allclose(schedule.probabilities(step, state), p, rtol=1e-9)


def test_bandit_progress_prefers_the_task_that_is_learning():
    tasks = two()
    schedule = create("bandit", tasks, reward="progress", reward_scale=1.0)
    state, book = schedule.init(), ScoreBook(tasks)
    for step in range(1, 200):
        book.observe(0, step, 5.0 - 0.02 * step, 0.5)
        book.observe(1, step, 5.0, 0.5)
        state = schedule.update(state, step, book)
    assert schedule.probabilities(200, state)[0] > 0.55


def test_excess_loss_matches_algorithm_1():
    tasks = two()
    schedule = create("excess_loss", tasks, reference_losses={"a": 2.0, "b": 3.0}, smoothing=0.1)
    book = ScoreBook(tasks)
    book.observe(0, 1, 2.5, 0.5, weight=2)
    book.observe(0, 2, 4.0, 0.5)  # mean 3: excess 1
    book.observe(1, 2, 1.0, 0.5)  # below its reference: excess 0
    state = schedule.update(schedule.init(), 2, book)
    first = 0.9 * math.e / (math.e + 1) + 0.05
    assert schedule.probabilities(2, state)[0] == pytest.approx(first)
    book.observe(1, 3, 3.5, 0.5)  # task a was not drawn: it keeps its excess of 1
    state = schedule.update(state, 3, book)
    grown = first * math.e, (1 - first) * math.exp(0.5)
    expected = 0.9 * grown[0] / sum(grown) + 0.05
    assert schedule.probabilities(3, state)[0] == pytest.approx(expected)


def test_loss_schedules_pass_over_what_came_before_their_stage():
    tasks = two()
    stages = [
        {"name": "uniform", "steps": 10},
        {"name": "excess_loss", "parameters": {"reference_losses": [1.0, 1.0]}},
    ]
    schedule = create("piecewise", tasks, stages=stages)
    state, book = schedule.init(), ScoreBook(tasks)
    book.observe(0, 5, 9.0, 0.5)
    state = schedule.update(state, 5, book)
    book.observe(0, 10, 1.0, 0.5)
    book.observe(1, 10, 2.0, 0.5)
    state = schedule.update(state, 10, book)
    np.testing.assert_allclose(state["1/excess"], [0, 1])


def test_messages_name_field_value_and_remedy():
    cases = [
        ("temperature", {"temperature": 0}, "temperature = 0 must be finite and > 0: 1 is prop"),
        ("temperature", {"temperature": "1e-5"}, "'1e-5' is not a number; .* or 1e-5"),
        ("inverse_ratio", {"ema": 1}, "ema = 1 must be finite and >= 0 and < 1"),
        ("inverse_ratio", {"max_change": 0}, "max_change = 0 must be .*1 is off"),
        ("constant", {"weights": {"a": 1}}, "weights has no value for task 'b'"),
        ("constant", {"weights": {"a": 1, "b": 1, "bb": 2}}, "unknown task 'bb'; did you mean"),
        ("constant", {"weights": [1]}, "weights has 1 values for 2 tasks"),
        ("constant", {"weights": [1, -2]}, r"weights\['b'\] = -2 must be finite and >= 0"),
        ("cooldown", {"switch_step": 1.5}, "switch_step = 1.5 must be a whole number"),
        ("sequential", {"stages": []}, "at least one stage"),
        ("sequential", {"stages": [{"task": "c", "steps": 1}]}, r"stages\[0\].task = 'c' is not"),
        ("sequential", {"stages": [{"task": "a"}, {"task": "b"}]}, r"stages\[0\] has no steps"),
        ("sequential", {"stages": [{"task": "a", "step": 1}]}, "unknown field 'step'; did you"),
        ("piecewise", {"stages": [{"name": "unifrom"}]}, r"stages\[0\]: .*did you mean 'uniform'"),
        (
            "piecewise",
            {"stages": [{"name": "uniform", "parameters": [1]}]},
            r"stages\[0\]: parameters = \[1\] must be a mapping",
        ),
        ("uniform", {"floor": {"a": 0.1}}, "floor = .* is not a number"),
        ("uniform", {"floor": None}, "floor = None is not a number"),
        ("uniform", {"floor": 0.6}, r"floor = 0.6 must be in \[0, 1/2\]"),
        ("uniform", {"tasks": 3}, "has no parameter 'tasks'"),
        ("uniform", {"name": "x"}, "has no parameter 'name'"),
        ("temperature", {"temperature": 10**400}, "must be finite"),
        ("implicit", {"gamma": 2}, "gamma = 2 must be finite and >= 0 and <= 1"),
        ("bandit", {"reward": "score"}, "reward = 'score' is not known; known: loss, progress"),
    ]
    for name, parameters, message in cases:
        with pytest.raises(ConfigError, match=message):
            create(name, two(), **parameters)


def test_a_book_of_other_tasks_is_refused():
    schedule = create("inverse_ratio", two())
    with pytest.raises(ValueError, match="the score book is for"):
        schedule.update(schedule.init(), 1, ScoreBook(two()[::-1]))


def test_remap_moves_each_task_s_own_values():
    tasks = [TaskInfo(name, 1, 1.0) for name in "abc"]
    schedule = create("inverse_ratio", tasks)
    state = after(schedule, (0.1, 0.5, 0.9), tasks)
    moved = schedule.remap(state, np.array([2, -1, 0]))
    np.testing.assert_allclose(moved["ratios"], [0.9, 0, 0.1])
    np.testing.assert_array_equal(moved["seen_count"], [1, 0, 1])
    expected = 1 / (moved["ratios"] + 0.05)
    np.testing.assert_allclose(moved["probabilities"], expected / expected.sum())


def test_huge_weights_do_not_overflow():
    schedule = create("constant", two(), weights=[1e308, 1e308])
    np.testing.assert_array_equal(schedule.probabilities(0, {}), 0.5)


def test_a_new_score_book_is_all_new_to_a_loss_schedule():
    tasks = two()
    schedule = create("excess_loss", tasks, reference_losses=[1.0, 1.0])
    book = ScoreBook(tasks)
    book.observe(0, 1, 9.0, 0.5, weight=100)
    state = schedule.update(schedule.init(), 1, book)
    book = ScoreBook(tasks)
    book.observe(0, 2, 3.0, 0.5)
    np.testing.assert_allclose(schedule.update(state, 2, book)["excess"], [2, 0])
