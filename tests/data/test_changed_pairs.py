"""Batches of pairs that change when they are read: translation, denoising, language model."""

import itertools

import numpy as np
import pytest
from packing_case import pairs_of

from keras_mtl import schedules
from keras_mtl.configuration.other_tasks import NoiseConfig, SubwordSamplingConfig
from keras_mtl.configuration.schema import DataConfig, PairConfig
from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.noise import BLANK_ID
from keras_mtl.data.packed_batch import PackedBatch
from keras_mtl.data.packing import PackedShape
from keras_mtl.data.pair_changes import held_out_changes, training_changes
from keras_mtl.data.store import StoreReader, StoreWriter
from keras_mtl.data.task_sources import TranslationSource
from keras_mtl.errors import CheckpointError
from keras_mtl.schedules import TaskInfo
from tests.data.subword_case import TEXTS, vocabulary

VOCABULARY = vocabulary("unigram")
PAIRS = [
    PairConfig("en-fr", "en", "fr"),
    PairConfig("fr-noise", "en", "fr", kind="denoising"),
    PairConfig("fr-mass", "fr", "fr", kind="denoising", noise=NoiseConfig("mass")),
    PairConfig("fr-lm", "fr", "fr", kind="language_model"),
]
NAMES = [pair.name for pair in PAIRS]
DATA = DataConfig(max_length=48)
SHAPES = {"padded": (Bucket(24, 8), Bucket(48, 4)), "packed": PackedShape(4, 96, 96)}
cases = pytest.mark.parametrize(
    ("shape", "granularity"), list(itertools.product(SHAPES, ["batch", "example"]))
)
STEPS = 24


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """Stores of short texts; only those of translation have sources."""
    directory = tmp_path_factory.mktemp("stores")
    rng = np.random.default_rng(0)
    words = " ".join(TEXTS).split()
    found = {}
    for pair in PAIRS:
        sides = [
            VOCABULARY.encode_batch(
                [" ".join(rng.choice(words, n)) for n in rng.integers(1, 8, 60)]
            )
            for _ in range(2)
        ]
        fits = [i for i in range(60) if max(len(side[i]) for side in sides) <= 30]
        sides = [[side[i] for i in fits] for side in sides]
        if pair.kind != "translation":
            sides[0] = [[] for _ in fits]
        with StoreWriter(directory / pair.name, VOCABULARY.hash, VOCABULARY.size) as writer:
            writer.add(*sides)
        found[pair.name] = StoreReader(directory / pair.name)
    return found


def make(readers, shape, granularity, side="both", growth=0.4, seed=5, **options):
    sampling = SubwordSamplingConfig(True, side, alpha=0.2, growth=growth)
    data = DataConfig(max_length=48, subword_sampling=sampling)
    changes = training_changes(PAIRS, data, VOCABULARY, seed)
    sources = [
        TranslationSource(
            pair.name,
            readers[pair.name],
            eos_id=VOCABULARY.eos_id,
            tag_id=VOCABULARY.tag_id(pair.target),
            changes=changes[pair.name],
        )
        for pair in PAIRS
    ]
    infos = [TaskInfo(source.name, source.size) for source in sources]
    schedule = schedules.create("uniform", infos)
    return Mixture(sources, schedule, SHAPES[shape], seed, granularity, **options)


def take(mixture, count=STEPS, start=None, rows=None):
    return list(itertools.islice(mixture.batches(start, rows), count))


def pairs(batch):
    """(task, source ids, target ids) of each pair of a batch."""
    if isinstance(batch, PackedBatch):
        return pairs_of(batch)
    found = []
    for row in range(batch.rows_used):
        sides = [batch.arrays[name][row] for name in ("source", "target")]
        found.append((int(batch.tasks[row]), *(tuple(s[s > 0].tolist()) for s in sides)))
    return found


def texts_of(readers, name, side):
    reader = readers[name]
    rows = reader.gather(np.arange(len(reader)))[side]
    texts = VOCABULARY.decode_batch(rows)
    return {tuple(row.tolist()): text for row, text in zip(rows, texts, strict=True)}


@cases
def test_every_pair_is_its_text_with_the_changes_of_its_task(readers, shape, granularity):
    tag, eos = VOCABULARY.tag_id("fr"), VOCABULARY.eos_id
    known = {name: set(texts_of(readers, name, 1).values()) for name in NAMES}
    sources = set(texts_of(readers, "en-fr", 0).values())
    usual = texts_of(readers, "en-fr", 1)
    seen, resegmented, noisy = set(), 0, 0
    for task, source, target in itertools.chain(
        *map(pairs, take(make(readers, shape, granularity)))
    ):
        name = NAMES[task]
        seen.add(name)
        assert (source[0], source[-1], target[-1]) == (tag, eos, eos)
        source, target = source[1:-1], target[:-1]
        text = VOCABULARY.decode(target)
        if name == "en-fr":
            assert text in known[name]
            assert VOCABULARY.decode(source) in sources
            resegmented += target not in usual
        elif name == "fr-noise":
            assert text in known[name]
            assert 0 < len(source) <= len(target)
            noisy += BLANK_ID in source
        elif name == "fr-mass":
            places = [i for i, token in enumerate(source) if token == BLANK_ID]
            restored = list(source)
            restored[places[0] : places[-1] + 1] = target
            assert len(places) == len(target)
            assert VOCABULARY.decode(restored) in known[name]
        else:
            assert source == ()
            assert text in known[name]
    assert seen == set(NAMES)
    assert resegmented > 5
    assert noisy > 5


@cases
def test_a_stopped_mixture_continues_with_the_same_pairs(readers, shape, granularity):
    whole = [batch.fingerprint() for batch in take(make(readers, shape, granularity))]
    for stop in (1, 7):
        first = make(readers, shape, granularity)
        take(first, stop + 3)
        second = make(readers, shape, granularity)
        second.restore(first.state(stop))
        rest = [batch.fingerprint() for batch in take(second, STEPS - stop)]
        assert rest == whole[stop:]
    other = [batch.fingerprint() for batch in take(make(readers, shape, granularity, seed=6))]
    assert not set(other) & set(whole)


@cases
def test_each_process_reads_its_rows_of_the_same_pairs(readers, shape, granularity):
    whole = take(make(readers, shape, granularity))
    for part in range(2):
        own = take(
            make(readers, shape, granularity),
            rows=lambda rows, part=part: np.arange(rows)[part::2],
        )
        for batch, expected in zip(own, whole, strict=True):
            for name, array in batch.arrays.items():
                assert np.array_equal(array[part::2], expected.arrays[name][part::2]), name


@pytest.mark.parametrize("side", ["source", "target"])
def test_one_side_can_be_sampled(readers, side):
    usual = [texts_of(readers, "en-fr", number) for number in range(2)]
    changed = [0, 0]
    for batch in take(make(readers, "packed", "batch", side)):
        for task, source, target in pairs(batch):
            if NAMES[task] == "en-fr":
                changed[0] += source[1:-1] not in usual[0]
                changed[1] += target[:-1] not in usual[1]
    assert (changed[0] > 5, changed[1] > 5) == (side == "source", side == "target")


def test_without_room_nothing_is_sampled_and_shapes_stay(readers):
    usual = texts_of(readers, "en-fr", 1)
    for batch in take(make(readers, "padded", "batch", growth=0.0)):
        for task, _, target in pairs(batch):
            if NAMES[task] == "en-fr":
                assert len(target) - 1 <= max(map(len, usual))
    plain = TranslationSource("en-fr", readers["en-fr"], eos_id=2, tag_id=4)
    (changed, *_) = make(readers, "padded", "batch", growth=0.0)._sources
    assert np.array_equal(plain.cumulative_lengths, changed.cumulative_lengths)
    (roomy, *_) = make(readers, "padded", "batch", growth=0.5)._sources
    assert len(roomy.cumulative_lengths) > len(plain.cumulative_lengths)
    assert len(roomy.cumulative_lengths) - 1 <= DATA.max_length


def test_changed_shapes_start_another_epoch(readers):
    """Other room gives other batches, so a task continues with its next epoch."""
    first = make(readers, "padded", "batch")
    take(first, 9)
    again = make(readers, "padded", "batch", growth=0.1)
    again.restore(first.state(9))
    with pytest.raises(CheckpointError, match="several examples in a row"):
        make(readers, "packed", "batch").restore(first.state(9))


def test_held_out_noise_is_always_the_same():
    changes = held_out_changes(PAIRS, VOCABULARY)
    assert set(changes) == {"fr-noise", "fr-mass"}
    tokens = np.array(VOCABULARY.encode("the cat sat on the mat"), np.int32)
    lengths = np.array([0, len(tokens)])
    found = [changes["fr-noise"](tokens, lengths, np.array([3]), 0) for _ in range(2)]
    assert np.array_equal(found[0][0], found[1][0])
    assert found[0][1][1] == len(tokens)
