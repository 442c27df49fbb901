"""Mixture: batches are a function of (seed, schedule state, cursors), and the state is exact."""

import collections
import logging

import numpy as np
import pytest

from keras_mtl import schedules
from keras_mtl.data.batch_plan import BatchPlan, Bucket, ExamplePlan, make_buckets
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.mixture_state import checkpoint_state
from keras_mtl.data.store import StoreReader, StoreWriter
from keras_mtl.data.task_sources import ArraySource, TranslationSource
from keras_mtl.errors import CheckpointError, ConfigError, DataError
from keras_mtl.schedules import TaskInfo

BUCKETS = make_buckets(32, 256, multiple_of=4)
EOS = 2
SIZES = {"en-fr": 700, "en-de": 150, "en-gl": 40, "en-oc": 5}
TAGS = {name: 4 + index for index, name in enumerate(SIZES)}


def write_store(path, size, seed):
    rng = np.random.default_rng(seed)
    sides = [[rng.integers(300, 900, n).tolist() for n in rng.integers(1, 31, size)]] * 2
    sides[1] = [rng.integers(300, 900, min(30, len(s) + 2)).tolist() for s in sides[0]]
    with StoreWriter(path, "vocabulary", 1000) as writer:
        writer.add(*sides)
    return sides


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    directory = tmp_path_factory.mktemp("stores")
    pairs = {}
    for index, (name, size) in enumerate(SIZES.items()):
        pairs[name] = write_store(directory / name, size, index)
    return {name: StoreReader(directory / name, "vocabulary") for name in SIZES}, pairs


def task_infos(names):
    return [TaskInfo(name, SIZES[name], baseline=0.5) for name in names]


def make(stores, granularity="batch", names=tuple(SIZES), schedule="temperature", **options):
    sources = [TranslationSource(n, stores[0][n], eos_id=EOS, tag_id=TAGS[n]) for n in names]
    options = {"seed": 7, "pool_examples": 300, **options}
    buckets = options.pop("buckets", BUCKETS)
    made = schedules.create(schedule, task_infos(names))
    return Mixture(sources, made, buckets, granularity=granularity, **options)


def take(mixture, count, start=None):
    batches = mixture.batches(start)
    return [next(batches) for _ in range(count)]


def prints(batches):
    return [(batch.step, batch.fingerprint()) for batch in batches]


def learn(mixture, step, *values):
    """Enters scores of the first tasks and updates the schedule."""
    mixture.adaptive.enter_scores(1, dict(zip(mixture.task_names, values, strict=False)))
    return mixture.update(step)


def rows_of(batches, name):
    """(source, target) of every row of a task."""
    index = list(SIZES).index(name)
    rows = []
    for batch in batches:
        for row in np.flatnonzero(batch.tasks[: batch.rows_used] == index):
            source, target = (batch.arrays[key][row] for key in ("source", "target"))
            rows.append((tuple(source[source > 0].tolist()), tuple(target[target > 0].tolist())))
    return rows


both = pytest.mark.parametrize("granularity", ["batch", "example"])


@both
def test_rows_hold_tag_pieces_and_end_of_sentence_in_static_shapes(stores, granularity):
    batches = take(make(stores, granularity), 120)
    shapes = {(bucket.rows, bucket.length) for bucket in BUCKETS}
    for batch in batches:
        for array in batch.arrays.values():
            assert array.dtype == np.int32
            assert array.shape in shapes
            assert not array[batch.rows_used :].any()
        assert batch.tasks.shape == batch.arrays["source"].shape[:1]
        assert batch.weights().sum() == batch.rows_used
    assert len({batch.arrays["source"].shape for batch in batches}) > 3
    for name, (sources, targets) in stores[1].items():
        known = {
            ((TAGS[name], *source, EOS), (*target, EOS))
            for source, target in zip(sources, targets, strict=True)
        }
        rows = rows_of(batches, name)
        assert rows
        assert set(rows) <= known


def test_without_a_tag_the_source_begins_with_its_pieces(stores):
    reader = stores[0]["en-oc"]
    source = TranslationSource("t", reader, eos_id=EOS)
    arrays = source.gather(np.array([0, 3]), 40)
    for row, index in enumerate((0, 3)):
        pieces = reader.source(index).tolist()
        assert arrays["source"][row].tolist() == [*pieces, EOS] + [0] * (39 - len(pieces))
    with pytest.raises(DataError, match="does not fit into 4"):
        source.gather(np.array([4]), 4)


@both
def test_an_epoch_of_a_task_holds_each_pair_once(stores, granularity):
    names = list(SIZES)
    mixture = make(stores, granularity)
    batches = take(mixture, 200)
    seen = rows_of(batches, names[0])
    assert len(seen) > SIZES[names[0]]
    assert len(set(seen[:200])) == 200
    if granularity == "batch":
        assert len(set(seen[: SIZES[names[0]]])) == SIZES[names[0]]
    state = mixture.state(200)
    consumed = mixture.consumed(state)
    for index, name in enumerate(names):
        if granularity == "batch":
            assert consumed[index] == sum(batch.task == index for batch in batches)
        else:
            assert consumed[index] == len(rows_of(batches, name))


def test_batch_granularity_draws_whole_batches_by_probability(stores):
    mixture = make(stores, schedule="uniform")
    batches = take(mixture, 400)
    counts = np.bincount([batch.task for batch in batches], minlength=4)
    assert counts.min() > 70
    assert all((batch.tasks == batch.task).all() for batch in batches)


def test_example_granularity_mixes_full_batches_by_probability(stores):
    mixture = make(stores, "example", schedule="uniform")
    batches = take(mixture, 150)
    assert all(batch.rows_used == len(batch.tasks) and batch.task == -1 for batch in batches)
    shares = np.bincount(np.concatenate([batch.tasks for batch in batches]), minlength=4)
    np.testing.assert_allclose(shares / shares.sum(), 0.25, atol=0.04)
    assert np.mean([len(np.unique(batch.tasks)) for batch in batches]) > 2.5


@both
def test_iterator_from_any_step_equals_the_sequence(stores, granularity):
    mixture = make(stores, granularity)
    whole = prints(take(mixture, 60))
    assert prints(take(mixture, 20, 40)) == whole[40:]
    assert prints(take(make(stores, granularity), 20, 33)) == whole[33:53]
    assert prints(take(make(stores, granularity, seed=8), 60)) != whole


@both
def test_state_is_exact_whatever_was_read_ahead(stores, granularity):
    whole = prints(take(make(stores, granularity), 90))
    mixture = make(stores, granularity)
    ahead = mixture.batches(0)
    for consumed in range(0, 60, 7):
        for _ in range(7):
            next(ahead)  # always further than `consumed`
        state = {key: value.copy() for key, value in mixture.state(consumed).items()}
        again = make(stores, granularity)
        again.restore(state)
        assert again.step == consumed
        assert prints(take(again, 12)) == whole[consumed : consumed + 12]
        np.testing.assert_equal(again.state(consumed), state)


@both
def test_a_run_stopped_at_every_step_equals_one_that_was_not(stores, granularity):
    def run(stop_after):
        mixture = make(stores, granularity, schedule="inverse_ratio")
        iterator, result = mixture.batches(0), []
        for step in range(80):
            if step % 20 == 10:
                scores = [0.5 * ((step + 7 * task) % 11) / 11 for task in range(4)]
                learn(mixture, step, *scores)
                iterator = mixture.batches(step)
            result.append(next(iterator).fingerprint())
            if stop_after and step % stop_after == 0:
                for _ in range(3):
                    next(iterator)
                state = mixture.state(step + 1)
                mixture = make(stores, granularity, schedule="inverse_ratio")
                mixture.restore(state)
                iterator = mixture.batches()
        return result

    undisturbed = run(None)
    assert run(1) == undisturbed
    assert run(13) == undisturbed


def test_update_drops_what_was_read_ahead_and_acts_at_once(stores):
    mixture = make(stores, schedule="inverse_ratio")
    ahead = mixture.batches(0)
    before = [next(ahead) for _ in range(30)]
    assert learn(mixture, 10, 0.5, 0.5, 0.5, 0.01) is True
    assert mixture.probabilities(10)[3] > 0.8
    with pytest.raises(RuntimeError, match="is at step 30, but the mixture was updated"):
        next(ahead)
    after = take(mixture, 20, 10)
    assert np.mean([batch.task == 3 for batch in after]) > 0.6
    assert prints(take(mixture, 10, 0)) == prints(before[:10])  # what was consumed stays
    assert mixture.update(15) is False  # Nothing new.


def test_a_plain_loop_goes_on_under_the_new_schedule(stores):
    mixture = make(stores, schedule="inverse_ratio")
    drawn = []
    for batch in mixture.batches():
        drawn.append(batch.task)
        if batch.step == 9:
            learn(mixture, 10, 0.5, 0.5, 0.5, 0.01)
        if batch.step == 39:
            break
    assert np.mean(np.array(drawn[10:]) == 3) > 0.6


def test_a_fixed_schedule_keeps_what_was_read_ahead(stores):
    mixture = make(stores)
    ahead = mixture.batches(0)
    first = [next(ahead) for _ in range(8)]
    assert learn(mixture, 3, *[0.1] * 4) is False
    assert mixture.step == 3
    assert prints([*first, next(ahead)]) == prints(take(make(stores), 9))


def test_an_update_inside_a_pool_acts_from_the_next_pool_on(stores):
    plain = take(make(stores, "example", schedule="inverse_ratio"), 60)
    mixture = make(stores, "example", schedule="inverse_ratio")
    take(mixture, 3)
    learn(mixture, 3, 0.5, 0.5, 0.5, 0.01)
    batches = take(mixture, 60, 3)
    same = [a.fingerprint() == b.fingerprint() for a, b in zip(plain[3:], batches, strict=False)]
    pool = same.index(False)
    assert 5 < pool < 40
    shares = np.concatenate([batch.tasks for batch in batches[pool + 5 :]])
    assert np.mean(shares == 3) > 0.6


@both
def test_tasks_come_and_go_and_the_others_keep_their_place(stores, granularity):
    names = list(SIZES)
    mixture = make(stores, granularity, names[:3], schedule="proportional")
    first = take(mixture, 12)
    state = mixture.state(12)
    present = [names[3], names[0]]  # and another schedule
    changed = make(stores, granularity, present, schedule="temperature")
    changed.restore(state)
    assert changed.step == 12
    done = mixture.consumed(state)
    np.testing.assert_array_equal(changed.consumed(changed.state()), [0, done[0]])
    later = take(changed, 108)
    for batch in later:  # back to the numbers of `names`
        batch.tasks[:] = np.where(batch.tasks == 1, 0, 3)
    seen = collections.Counter(rows_of([*first, *later], names[0]))

    # What was seen, over both runs, is the task's own sequence from its beginning without a gap.
    reader = stores[0][names[0]]
    taken = changed.state(120)
    count = int(taken["cursors"][1])
    if granularity == "batch":
        plan = BatchPlan(7, names[0], np.append([0, 0], reader.max_lengths_cumulative), BUCKETS)
        indices = np.concatenate([plan[number].indices for number in range(count)])
    else:
        left = taken["pool_left"]
        numbers = np.setdiff1d(np.arange(count), left[left[:, 0] == 1, 1])
        indices = ExamplePlan(7, names[0], SIZES[names[0]]).take(numbers)
    assert len(indices) > SIZES[names[0]]  # into the second epoch
    expected = collections.Counter(
        ((TAGS[names[0]], *reader.source(i), EOS), (*reader.target(i), EOS)) for i in indices
    )
    assert seen == expected

    again = make(stores, granularity, present, schedule="temperature")
    again.restore(changed.state(32))
    assert prints(take(again, 10)) == prints(take(changed, 10, 32))


def test_schedule_state_follows_its_task(stores):
    names = list(SIZES)
    mixture = make(stores, "batch", names[:3], schedule="inverse_ratio")
    learn(mixture, 5, 0.5, 0.01, 0.4)
    changed = make(stores, "batch", [names[1], names[0]], schedule="inverse_ratio")
    changed.restore(mixture.state(5))
    before, after = mixture.probabilities(5), changed.probabilities(5)
    assert after[0] / after[1] == pytest.approx(before[1] / before[0])


@both
def test_scores_are_part_of_the_state(stores, granularity):
    names = list(SIZES)
    mixture = make(stores, granularity, names[:3], schedule="inverse_ratio")
    learn(mixture, 5, 0.5, 0.01, 0.4)
    state = mixture.state(5)
    changed = make(stores, granularity, [names[1], names[0]], schedule="inverse_ratio")
    assert changed.restore(state) is None
    assert changed.adaptive.book.scores.tolist() == [0.01, 0.5]
    changed.adaptive.set_metric("loss", higher_is_better=False)
    assert "saved scores are of 'score'" in changed.restore(state)
    assert np.isnan(changed.adaptive.book.scores).all()


def test_checkpoints_of_older_versions_have_the_scores_outside_the_state(stores):
    mixture = make(stores, schedule="inverse_ratio")
    learn(mixture, 5, 0.5, 0.01, 0.4, 0.3)
    scores = mixture.adaptive.score_state()
    state = {key: value for key, value in mixture.state(5).items() if key not in scores}
    old = {**{f"mixture/{key}": value for key, value in state.items()}, **scores}
    again = make(stores, schedule="inverse_ratio")
    assert again.restore(checkpoint_state(old, "mixture/")) is None
    np.testing.assert_equal(again.state(), mixture.state(5))
    # A state without scores leaves those that are known.
    assert again.restore(state) is None
    np.testing.assert_equal(again.state(), mixture.state(5))


@both
def test_same_tasks_in_another_order_keep_their_places(stores, granularity):
    names = list(SIZES)
    mixture = make(stores, granularity)
    take(mixture, 15)
    state = mixture.state(15)
    other = make(stores, granularity, names[::-1])
    other.restore(state)
    np.testing.assert_array_equal(other.consumed(other.state()), mixture.consumed(state)[::-1])


@both
def test_changed_shapes_or_data_begin_a_new_epoch_with_a_warning(stores, granularity, caplog):
    mixture = make(stores, granularity)
    take(mixture, 15)
    changed = make(stores, granularity, seed=9)
    with caplog.at_level(logging.WARNING):
        changed.restore(mixture.state(15))
    assert "'en-fr'" in caplog.text
    assert "new epoch" in caplog.text
    state = changed.state()
    assert (state["cursors"] % state["epoch_lengths"] == 0).all()
    take(changed, 5)
    # Mixed batches of other shapes only need a new pool: every task keeps its place.
    if granularity == "example":
        caplog.clear()
        wider = make(stores, granularity, buckets=make_buckets(32, 512, multiple_of=4))
        wider.restore(mixture.state(15))
        assert not caplog.text
        np.testing.assert_array_equal(
            wider.consumed(wider.state()), mixture.consumed(mixture.state(15))
        )


def test_the_log_is_bounded_and_says_so(stores):
    mixture = make(stores, log_steps=16)
    take(mixture, 40)
    assert int(mixture.state(30)["step"]) == 30
    with pytest.raises(ValueError, match=r"step 3 is too far back.*from step 25 on"):
        mixture.state(3)


def test_padding_waste_is_what_the_batches_show(stores):
    for granularity in ("batch", "example"):
        mixture = make(stores, granularity)
        used = cells = 0
        for batch in take(mixture, 400):
            for array in batch.arrays.values():
                used += np.count_nonzero(array)
                cells += array.size
        assert abs(mixture.padding_waste() - (1 - used / cells)) < 0.03
        assert 0 < mixture.padding_waste() < 0.5


def test_fingerprints_are_taken_once_and_follow_redraws(stores):
    mixture = make(stores, schedule="inverse_ratio", fingerprints=True)
    first = take(mixture, 10)
    assert mixture.take_fingerprints(4) == [(b.step, b.task, b.fingerprint()) for b in first[:4]]
    learn(mixture, 6, 0.5, 0.5, 0.5, 0.01)
    second = take(mixture, 10, 6)
    expected = [(b.step, b.task, b.fingerprint()) for b in [*first[4:6], *second]]
    assert mixture.take_fingerprints(99) == expected
    assert mixture.take_fingerprints(99) == []
    with pytest.raises(ValueError, match="fingerprints=True"):
        make(stores).take_fingerprints(1)


def array_mixture(sizes=(50, 9), **options):
    sources = [
        ArraySource(
            f"task {index}",
            {
                "x": (np.arange(size * 6).reshape(size, 2, 3) + 1000 * index).astype(np.float32),
                "y": np.arange(size),
            },
        )
        for index, size in enumerate(sizes)
    ]
    infos = [TaskInfo(source.name, source.size) for source in sources]
    return Mixture(sources, schedules.create("uniform", infos), (Bucket(1, 8),), 3, **options)


@both
def test_arrays_of_any_model(granularity):
    mixture = array_mixture(granularity=granularity)
    batches = take(mixture, 60)
    for batch in batches:
        assert batch.arrays["x"].shape == (8, 2, 3)
        assert batch.arrays["x"].dtype == np.float32
        assert batch.arrays["y"].dtype == np.int64
        used = slice(0, batch.rows_used)
        tasks = (batch.arrays["x"][used, 0, 0] // 1000).astype(int)
        np.testing.assert_array_equal(tasks, batch.tasks[used])
        np.testing.assert_array_equal(
            batch.arrays["y"][used], (batch.arrays["x"][used, 0, 0] - 1000 * tasks) / 6
        )
    if granularity == "batch":
        mine = np.concatenate([b.arrays["y"][: b.rows_used] for b in batches if b.task == 0])
        assert sorted(mine[:50].tolist()) == list(range(50))
        expected = 1 - (50 / 7 + 9 / 2) / 16
        assert mixture.padding_waste() == pytest.approx(expected)
    else:
        assert mixture.padding_waste() == 0


def test_what_is_wrong_is_said(stores):
    with pytest.raises(ConfigError, match="'exmple' is unknown; did you mean 'example'"):
        make(stores, "exmple")
    source = ArraySource("a", {"x": np.zeros(4)})
    one = schedules.create("uniform", [TaskInfo("a", 4)])
    two = schedules.create("uniform", [TaskInfo("a", 4), TaskInfo("b", 4)])
    bucket = (Bucket(1, 2),)
    with pytest.raises(ConfigError, match="its schedule has 2 tasks"):
        Mixture([source], two, bucket, 1)
    swapped = [ArraySource(name, {"x": np.zeros(4)}) for name in ("b", "a")]
    with pytest.raises(ConfigError, match=r"has \['a', 'b'\]; .*same order"):
        Mixture(swapped, two, bucket, 1)
    with pytest.raises(ConfigError, match="unique names"):
        Mixture([source, source], two, bucket, 1)
    for other in (np.zeros(4, np.float32), np.zeros((4, 2))):
        with pytest.raises(
            ConfigError, match=r"'x' of task 'b' is float.*'a' is float64\[\]; give"
        ):
            Mixture([source, ArraySource("b", {"x": other})], two, bucket, 1)
    with pytest.raises(ConfigError, match="an array has the name 'task'"):
        Mixture([ArraySource("a", {"task": np.zeros(4)})], one, bucket, 1)
    with pytest.raises(DataError, match="same number of examples"):
        ArraySource("a", {"x": np.zeros(4), "y": np.zeros(3)})
    for granularity in ("batch", "example"):
        with pytest.raises(DataError, match="longer than the longest bucket"):
            make(stores, granularity, buckets=make_buckets(16, 256))


def test_a_damaged_or_foreign_state_is_refused(stores):
    mixture = make(stores, "example")
    take(mixture, 5)
    state = mixture.state(5)
    with pytest.raises(CheckpointError, match="granularity 'example', but this one has 'batch'"):
        make(stores).restore(state)
    with pytest.raises(CheckpointError, match="damaged"):
        mixture.restore({key: value for key, value in state.items() if key != "cursors"})
    with pytest.raises(CheckpointError, match="damaged"):
        mixture.restore({**state, "cursors": state["cursors"] + 1})
    with pytest.raises(CheckpointError, match="damaged"):
        mixture.restore({**state, "task_names": state["task_names"][:-3]})
    assert prints(take(mixture, 3, 5)) == prints(take(make(stores, "example"), 8))[5:]


def test_one_iterator_reads_ahead_while_another_thread_asks_for_states(stores):
    import threading

    mixture = make(stores, schedule="inverse_ratio")
    errors = []

    def read():
        try:
            take(mixture, 200)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    states = [mixture.state(step) for step in range(200)]
    thread.join()
    assert not errors
    again = make(stores, schedule="inverse_ratio")
    take(again, 200)
    for step in range(0, 200, 20):
        np.testing.assert_equal(states[step], again.state(step))
