"""BatchPlan: every example once an epoch, static shapes, any batch at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.data.batch_plan import BatchPlan, Bucket, ExamplePlan, bucket_ranges, make_buckets
from keras_mtl.errors import ConfigError, DataError

BUCKETS = (Bucket(8, 16), Bucket(16, 8), Bucket(32, 4))

LENGTHS = (1, 7, 8, 9, 16, 25, 32)
COUNTS = st.lists(st.integers(0, 200), min_size=7, max_size=7).filter(
    lambda counts: sum(counts) > 0
)


def cumulative_of(lengths):
    return np.cumsum(np.bincount(lengths))


def random_task(size, seed=0, longest=32):
    """Lengths of a task's examples, sorted as a store sorts them."""
    return np.sort(np.random.default_rng(seed).integers(2, longest + 1, size))


def epoch_of(plan, epoch):
    first = epoch * plan.batches_per_epoch
    return [plan[first + i] for i in range(plan.batches_per_epoch)]


@settings(max_examples=40, deadline=None)
@given(
    counts=COUNTS,
    epoch=st.integers(0, 5),
    seed=st.integers(0, 2**32),
)
def test_every_example_exactly_once_in_each_epoch(counts, epoch, seed):
    lengths = np.repeat(LENGTHS, counts)
    plan = BatchPlan(seed, "en-fr", cumulative_of(lengths), BUCKETS)
    batches = epoch_of(plan, epoch)
    seen = np.concatenate([batch.indices for batch in batches])
    np.testing.assert_array_equal(np.sort(seen), np.arange(len(lengths)))
    np.testing.assert_array_equal(np.sort(plan.example_permutation(epoch)), np.arange(len(lengths)))
    for batch in batches:
        assert batch.bucket in BUCKETS
        assert 1 <= len(batch.indices) <= batch.bucket.rows
        assert lengths[batch.indices].max() <= batch.bucket.length


@settings(max_examples=40, deadline=None)
@given(counts=COUNTS)
def test_only_the_longest_bucket_in_use_has_partial_batches_and_they_are_even(counts):
    lengths = np.repeat(LENGTHS, counts)
    plan = BatchPlan(1, "t", cumulative_of(lengths), BUCKETS)
    batches = epoch_of(plan, 0)
    longest = max((batch.bucket for batch in batches), key=lambda bucket: bucket.length)
    rows = [len(batch.indices) for batch in batches if batch.bucket == longest]
    assert max(rows) - min(rows) <= 1
    assert len(rows) == -(-sum(rows) // longest.rows)
    for batch in batches:
        if batch.bucket != longest:
            assert len(batch.indices) == batch.bucket.rows


def test_leftovers_go_to_the_next_longer_bucket():
    lengths = np.array([4] * 20 + [12] * 5 + [30] * 2)  # 16 | 4 + 4 | 1 + 2
    ranges = bucket_ranges(cumulative_of(lengths), BUCKETS, "t")
    assert [(r.bucket.length, r.start, r.stop, r.batches) for r in ranges] == [
        (8, 0, 16, 1),
        (16, 16, 24, 1),
        (32, 24, 27, 1),
    ]


def test_a_task_that_uses_short_buckets_stays_there():
    plan = BatchPlan(1, "t", cumulative_of(np.full(40, 5)), BUCKETS)
    assert {batch.bucket.length for batch in epoch_of(plan, 0)} == {8}
    assert sorted(len(batch.indices) for batch in epoch_of(plan, 0)) == [13, 13, 14]


@pytest.mark.parametrize("size", [1, 3, 15])
def test_a_task_smaller_than_a_batch_is_one_partial_batch_without_repeats(size):
    plan = BatchPlan(1, "t", cumulative_of(np.full(size, 5)), BUCKETS)
    assert plan.batches_per_epoch == 1
    for number in (0, 1, 10**9):
        assert sorted(plan[number].indices.tolist()) == list(range(size))


def test_random_access_equals_sequence_and_far_batches_cost_the_same():
    lengths = random_task(500)
    plan = BatchPlan(3, "t", cumulative_of(lengths), BUCKETS)
    numbers = [17, 0, 3, plan.batches_per_epoch * 2 + 1, 17]
    again = BatchPlan(3, "t", cumulative_of(lengths), BUCKETS)
    sequence = [again[i] for i in range(max(numbers) + 1)]
    for number in numbers:
        np.testing.assert_array_equal(plan[number].indices, sequence[number].indices)
        assert plan[number].bucket == sequence[number].bucket
    assert len(plan[10**15].indices) > 0


def test_epochs_tasks_and_seeds_differ_in_order_and_company():
    lengths = random_task(400)
    cumulative = cumulative_of(lengths)
    plan = BatchPlan(1, "a", cumulative, BUCKETS)
    epochs = [[frozenset(b.indices.tolist()) for b in epoch_of(plan, e)] for e in range(3)]
    assert len(set(epochs[0]) & set(epochs[1])) <= 1
    shapes = [[b.bucket.length for b in epoch_of(plan, e)] for e in range(3)]
    assert shapes[0] != shapes[1] != shapes[2]
    for other in (BatchPlan(2, "a", cumulative, BUCKETS), BatchPlan(1, "b", cumulative, BUCKETS)):
        assert [frozenset(b.indices.tolist()) for b in epoch_of(other, 0)] != epochs[0]
        assert other.identity() != plan.identity()


def test_a_huge_task_takes_no_memory():
    cumulative = np.linspace(0, 2**40, 33).astype(np.int64)
    plan = BatchPlan(1, "huge", cumulative, BUCKETS)
    spec = plan[plan.batches_per_epoch - 1]
    assert len(set(spec.indices.tolist())) == len(spec.indices)
    assert plan.batches_per_epoch > 2**36


def test_padding_cells():
    plan = BatchPlan(1, "t", cumulative_of(np.array([4] * 16 + [12] * 3)), BUCKETS)
    assert plan.cells_per_epoch() == 16 * 8 + 8 * 16


def test_make_buckets():
    buckets = make_buckets(128, 4096)
    assert [b.length for b in buckets] == [8, 12, 16, 24, 32, 48, 64, 96, 128]
    for bucket in buckets:
        assert bucket.rows % 8 == 0
        assert 0.8 * 4096 <= bucket.rows * bucket.length <= 4096
    assert [b.length for b in make_buckets(100, 4096)][-2:] == [64, 100]  # 96 is too near
    assert make_buckets(5, 100) == (Bucket(5, 16),)
    assert make_buckets(512, 1024, multiple_of=16)[-1] == Bucket(512, 16)  # over the budget
    assert make_buckets(40, 800, 4, [20, 40]) == (Bucket(20, 40), Bucket(40, 20))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4096), "max_length is 0"),
        ((128, 0), "tokens_per_batch is 0"),
        ((128, 4096, 0), "multiple_of is 0"),
        ((128, 4096, 8, [16, 64]), "ends at 64, below max_length 128"),
        ((128, 4096, 8, [64, 64, 128]), "strictly increasing"),
    ],
)
def test_make_buckets_says_what_is_wrong(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_buckets(*arguments)


def test_plan_says_what_is_wrong():
    with pytest.raises(DataError, match="'t' has no training examples"):
        BatchPlan(1, "t", np.zeros(4, np.int64), BUCKETS)
    with pytest.raises(DataError, match="2 examples of up to 40 tokens"):
        BatchPlan(1, "t", cumulative_of(np.array([4, 33, 40])), BUCKETS)
    with pytest.raises(ConfigError, match="strictly increasing"):
        BatchPlan(1, "t", np.array([0, 3]), (Bucket(8, 4), Bucket(8, 2)))
    with pytest.raises(IndexError, match="count from 0"):
        BatchPlan(1, "t", np.array([0, 3]), BUCKETS)[-1]


def test_example_plan_gives_each_example_once_an_epoch():
    plan = ExamplePlan(1, "t", 37)
    taken = plan.take(np.arange(37 * 3))
    for epoch in range(3):
        assert sorted(taken[37 * epoch : 37 * (epoch + 1)].tolist()) == list(range(37))
    assert taken[:37].tolist() != taken[37:74].tolist()
    assert [plan[i] for i in (0, 40, 100)] == taken[[0, 40, 100]].tolist()
    with pytest.raises(DataError, match="no training examples"):
        ExamplePlan(1, "t", 0)
