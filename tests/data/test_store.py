"""The store: what goes in comes out, sorted, in bounded memory; damage is named, never served."""

import os
import random
import re
import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl import errors
from keras_mtl.data import store_format
from keras_mtl.data.store import StoreReader, StoreWriter

SIZE = 500


def random_pairs(count, seed=1, longest=40):
    draw = random.Random(seed)
    return [
        tuple([draw.randrange(SIZE) for _ in range(draw.randrange(1, longest))] for _ in range(2))
        for _ in range(count)
    ]


def texts_of(pairs):
    return [(f"s {source}", f"é {target}") for source, target in pairs]


def write(path, pairs, keep_text=True, step=70, **options):
    with StoreWriter(path, "hash", SIZE, keep_text=keep_text, **options) as writer:
        for i in range(0, len(pairs), step):
            part = pairs[i : i + step]
            writer.add(
                [source for source, _ in part],
                [target for _, target in part],
                texts_of(part) if keep_text else None,
            )
    return StoreReader(path, "hash")


def content(reader):
    sources, targets = reader.gather(np.arange(len(reader)))
    return [(s.tolist(), t.tolist()) for s, t in zip(sources, targets, strict=True)]


def test_everything_comes_back_with_its_text(tmp_path):
    pairs = random_pairs(500)
    reader = write(tmp_path / "a.store", pairs)
    found = content(reader)
    assert sorted(found) == sorted(pairs)
    assert list(reader.texts()) == texts_of(found)
    assert reader.source(7).tolist() == found[7][0]
    assert reader.target(7).tolist() == found[7][1]
    assert reader.source(7).dtype == np.int32
    assert reader.source_tokens == sum(len(s) for s, _ in pairs)
    assert reader.target_tokens == sum(len(t) for _, t in pairs)
    reader.verify()
    assert os.listdir(tmp_path) == ["a.store"]


def test_order_is_by_longest_side_then_source(tmp_path):
    reader = write(tmp_path / "a.store", random_pairs(500))
    source, target = reader.lengths(np.arange(500))
    keys = list(zip(np.maximum(source, target), source, strict=True))
    assert keys == sorted(keys)
    longest = np.maximum(source, target)
    for length, count in enumerate(reader.max_lengths_cumulative):
        assert count == (longest <= length).sum()
    assert reader.max_length == longest.max()
    assert reader.lengths(3) == (source[3], target[3])


@given(
    lengths=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=60),
    run_tokens=st.integers(1, 60),
    merge_pairs=st.integers(1, 20),
    keep_text=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_runs_and_merge_do_not_show(tmp_path_factory, lengths, run_tokens, merge_pairs, keep_text):
    """However memory is cut, the file is bit-identical: also with empty sides and no pairs."""
    directory = tmp_path_factory.mktemp("store")
    draw = random.Random(0)
    pairs = [tuple([draw.randrange(3) for _ in range(n)] for n in pair) for pair in lengths]
    write(directory / "a.store", pairs, keep_text)
    write(
        directory / "b.store",
        pairs,
        keep_text,
        step=7,
        run_tokens=run_tokens,
        merge_pairs=merge_pairs,
    )
    assert (directory / "a.store").read_bytes() == (directory / "b.store").read_bytes()
    assert sorted(content(StoreReader(directory / "b.store"))) == sorted(pairs)


def test_no_pairs(tmp_path):
    reader = write(tmp_path / "a.store", [])
    assert len(reader) == 0
    assert reader.max_lengths_cumulative.tolist() == [0]
    assert reader.gather(np.array([], np.int64)) == ([], [])
    reader.verify()


def test_a_large_vocabulary_takes_four_bytes(tmp_path):
    with StoreWriter(tmp_path / "a.store", "hash", 70_000) as writer:
        writer.add([[69_999]], [[65_536, 1]])
    reader = StoreReader(tmp_path / "a.store")
    assert reader.target(0).tolist() == [65_536, 1]
    assert reader.source(0).tolist() == [69_999]


def test_gather_takes_any_order_and_repeats(tmp_path):
    reader = write(tmp_path / "a.store", random_pairs(50))
    found = content(reader)
    indices = np.array([49, 0, 7, 7])
    sources, targets = reader.gather(indices)
    assert [s.tolist() for s in sources] == [found[i][0] for i in indices]
    assert [t.tolist() for t in targets] == [found[i][1] for i in indices]
    for wrong in (-1, 50):
        with pytest.raises(IndexError, match=f"no pair {wrong}"):
            reader.gather(np.array([0, wrong]))


def test_training_store_without_text_says_so(tmp_path):
    reader = write(tmp_path / "a.store", random_pairs(5), keep_text=False)
    assert not reader.has_text
    with pytest.raises(errors.DataError, match=r"a\.store has no text"):
        reader.text(0)


def test_ids_and_lengths_out_of_range_are_refused_and_leave_nothing(tmp_path):
    for ids, match in (([SIZE], "ids 3 to 500"), ([-1], "ids -1 to 3"), ([1] * 65_536, "65536")):
        writer = StoreWriter(tmp_path / "a.store", "hash", SIZE)
        with pytest.raises(errors.DataError, match=match), writer:
            writer.add([[3]], [ids])
    assert os.listdir(tmp_path) == []


def test_an_exception_inside_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.store"
    write(path, random_pairs(5))
    before = path.read_bytes()
    writer = StoreWriter(path, "hash", SIZE)
    writer.add([[1]], [[2]])
    writer.__exit__(KeyError, KeyError(), None)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.store"]


def test_full_disk_is_a_message_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(errors.DataError, match=r"a\.store: cannot write: .*; free some space"):
            write(tmp_path / "a.store", random_pairs(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


def test_missing_folder_is_a_message(tmp_path):
    with pytest.raises(errors.DataError, match="cannot write: No such file"):
        StoreWriter(tmp_path / "none" / "a.store", "hash", SIZE)


def test_another_vocabulary_is_refused(tmp_path):
    write(tmp_path / "a.store", random_pairs(5))
    with pytest.raises(errors.DataError, match=r"field vocabulary_hash.* hash, .* other; prepare"):
        StoreReader(tmp_path / "a.store", "other")


def test_every_truncation_is_found(tmp_path):
    path = tmp_path / "a.store"
    write(path, random_pairs(20))
    data = path.read_bytes()
    for size in [0, 1, 31, 32, 100, *range(500, len(data), 397), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(errors.DataError, match=r"a\.store: damaged store.*prepare"):
            StoreReader(path)
    path.write_bytes(data + b"x")
    with pytest.raises(errors.DataError, match="its header says"):
        StoreReader(path)
    path.unlink()
    with pytest.raises(errors.DataError, match="No such file"):
        StoreReader(path)


def test_every_flipped_bit_of_the_header_is_found(tmp_path):
    path = tmp_path / "a.store"
    write(path, random_pairs(20))
    data = path.read_bytes()
    header = store_format.PREAMBLE.size + store_format.PREAMBLE.unpack(data[:32])[2]
    for place in range(header):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(errors.DataError, match=r"a\.store"):
            StoreReader(path)


def test_every_flipped_byte_of_the_payload_is_found_by_verify_and_serves_no_wild_read(tmp_path):
    path = tmp_path / "a.store"
    reader = write(path, random_pairs(20, longest=6))
    sections = reader._header.sections
    data = path.read_bytes()
    for name, section in sections.items():
        for place in range(section.offset, section.offset + section.size, 7):
            flipped = bytearray(data)
            flipped[place] ^= 0xFF
            path.write_bytes(flipped)
            damaged = StoreReader(path)
            with pytest.raises(errors.DataError, match=f"field {name}: wrong checksum"):
                damaged.verify()
            # Reading it anyway gives ids of the vocabulary or an error, never anything else.
            try:
                for side in damaged.gather(np.arange(20)):
                    assert all(((ids >= 0) & (ids < SIZE)).all() for ids in side)
                list(damaged.texts())
            except errors.DataError as error:
                if not re.search(r"field \w+, pair \d+", str(error)):
                    raise


def test_version_and_magic_are_named(tmp_path):
    path = tmp_path / "a.store"
    write(path, random_pairs(5))
    data = bytearray(path.read_bytes())
    data[8] = 9
    path.write_bytes(data)
    with pytest.raises(errors.DataError, match="store version 9, this release reads version 1"):
        StoreReader(path)
    path.write_bytes(b"something else that is longer than a preamble")
    with pytest.raises(errors.DataError, match="not a store"):
        StoreReader(path)


def test_mapped_pages_are_given_back(tmp_path, monkeypatch):
    """The process keeps a bounded part of a large store resident, and still reads it right."""
    monkeypatch.setattr("keras_mtl.data.store.MAPPED_BYTES", 1 << 20)
    with StoreWriter(tmp_path / "a.store", "hash", SIZE) as writer:
        for start in range(0, 20_000, 10_000):
            tokens = np.arange(start, start + 10_000).repeat(100) % SIZE
            writer.add_arrays(tokens, np.full(20_000, 50))
    reader = StoreReader(tmp_path / "a.store")

    def mapped():
        with open("/proc/self/smaps", encoding="ascii") as file:
            lines = iter(file)
            for line in lines:
                if line.rstrip().endswith("a.store"):
                    return next(int(x.split()[1]) for x in lines if x.startswith("Rss:")) / 1024
        raise AssertionError("not mapped")

    most = 0.0
    order = np.random.default_rng(0).permutation(20_000)
    for indices in order.reshape(-1, 10)[:30]:
        tokens, _ = reader.gather_flat(indices)
        assert (tokens.reshape(-1, 100).std(axis=1) == 0).all()
        most = max(most, mapped())
    # The file has 4 MB; between two releases 10 pairs map at most 1.25 MB.
    assert most <= 10 * 2 / 16
