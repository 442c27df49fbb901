"""Preparation on a cluster: the steps give the files of one machine, in any order of elements.

Without Beam, a few lines run the steps; with Beam, the pipeline runs on its local runner.
"""

import collections
import dataclasses
import filecmp
import os
import random
import shutil
import sys

import numpy as np
import pytest
from test_prepare import SETTINGS, run, task
from test_prepare_processes import CAPPED, assert_same, tasks

from keras_mtl import errors
from keras_mtl.configuration.schema import VocabularyConfig
from keras_mtl.data import distributed
from keras_mtl.data import distributed_steps as steps
from keras_mtl.data import distributed_stores as stores
from keras_mtl.data.beam_pipeline import Runner, check_runner

RUNNER = Runner("DirectRunner")


class Local:
    """Runs the steps of `beam_pipeline` with lists for collections, whose order is random."""

    def __init__(self, plan, output, given):
        self.plan, self.output, self.reports = plan, output, []
        self.random = random.Random(1)
        read = self.flat(steps.read_unit, plan.units, plan)
        self.report("read", of(read, "read"))
        self.report("error", of(read, "error"))
        cleaned = self.flat(steps.clean, of(read, "chunk"), plan)
        self.report("cleaned", self.sums(of(cleaned, "cleaned")))
        pieces = self.split(of(cleaned, "piece"))
        counts = self.sums([steps.place_counts(piece) for piece in pieces])
        self.report("places", counts)
        ranks = self.flat(steps.sample_ranks, self.groups([steps.kept(p) for p in pieces]))
        self.report("sample", self.flat(steps.sampled, pieces, dict(ranks)))
        models = self.train(pieces, counts, given) if None in given else [given]
        encoded = self.flat(stores.encode, pieces, models, plan)
        self.report("encoded", self.sums(of(encoded, "encoded")))
        self.write(of(encoded, "batch"), models)

    def report(self, kind, values):
        self.reports += [(kind, value) for value in values]

    def flat(self, function, elements, *arguments):
        found = [value for each in elements for value in function(each, *arguments)]
        self.random.shuffle(found)
        return found

    def groups(self, pairs):
        grouped = collections.defaultdict(list)
        for key, value in self.random.sample(pairs, len(pairs)):
            grouped[key].append(value)
        return list(grouped.items())

    def sums(self, pairs):
        sums = {}
        for key, values in self.groups(pairs):
            sums[key] = values[0].copy()
            for value in values[1:]:
                if isinstance(value, dict):
                    sums[key].update(value)
                else:
                    sums[key] = sums[key] + value
        return list(sums.items())

    def combined(self, function, pairs):
        """Combines values in two levels, as a cluster does."""
        return [
            (key, function([function(values[::2]), function(values[1::2])]))
            for key, values in self.groups(pairs)
        ]

    def split(self, pieces):
        plan = self.plan
        buckets = self.groups(self.flat(steps.in_buckets, pieces, plan))
        duplicates = dict(self.groups(self.flat(steps.duplicate_rows, buckets)))
        given = steps.union(self.flat(steps.given_sources, pieces))
        joined = [
            (piece.order, {"pieces": [piece], "duplicates": duplicates.get(piece.order, [])})
            for piece in pieces
        ]
        pieces = self.flat(steps.place, joined, given, plan)
        capped = self.combined(steps.lowest, self.flat(steps.capped, pieces, plan))
        limits = dict(map(steps.threshold, capped))
        pieces = [steps.apply_caps(piece, limits) for piece in pieces]
        held_out = steps.union(self.flat(steps.chosen_sources, pieces))
        pieces = [steps.give_back(piece, held_out, limits, plan) for piece in pieces]
        returning = self.flat(steps.returning, pieces, limits, plan)
        rooms = dict(map(steps.threshold, self.combined(steps.lowest, returning)))
        return [steps.apply_room(piece, rooms) for piece in pieces]

    def train(self, pieces, counts, given):
        sizes = {
            number: int(found[list(steps.STORED["train"])].sum())
            for (number, field), found in counts
            if field == "corpora"
        }
        ranges = self.groups(self.flat(stores.train_ranges, pieces))
        copies = dict(self.flat(stores.draw, ranges, sizes, self.plan))
        drawn = self.flat(stores.drawn_text, pieces, copies)
        trained = list(stores.train_model(drawn, self.plan, given))
        self.report("models", of(trained, "models"))
        self.report("model error", of(trained, "error"))
        return of(trained, "models")

    def write(self, batches, models):
        counts = self.combined(stores.merged_counts, list(map(stores.fine_counts, batches)))
        cuts = dict(stores.cut_bins(each, self.plan) for each in counts)
        near = self.groups(self.flat(stores.near_cuts, batches, cuts))
        firsts = dict(stores.exact_cuts(each, cuts) for each in near)
        sharded = self.flat(stores.in_shards, batches, firsts)
        files = self.groups([*stores.empty_batches(self.plan), *sharded])

        def upload(path, name):
            shutil.copy(path, os.path.join(self.output, name))

        self.report(
            "stored", self.flat(stores.write_store, files, models, firsts, self.plan, upload)
        )


def of(found, kind):
    return [value for each, value in found if each == kind]


@pytest.fixture
def local(monkeypatch):
    def run_pipeline(plan, output, given, runner):
        plan = dataclasses.replace(plan, buckets=3)
        return Local(plan, output, given).reports

    monkeypatch.setattr(distributed, "run_pipeline", run_pipeline)
    monkeypatch.setattr(steps.chunks_of, "__defaults__", (150,))


@pytest.mark.parametrize("shard_pairs", [70, 4_000_000])
def test_the_steps_give_the_files_of_one_machine(tmp_path, local, shard_pairs):
    settings = dataclasses.replace(
        CAPPED,
        shard_pairs=shard_pairs,
        max_length=17,
        vocabulary=VocabularyConfig(size=290, max_sentences=900),
    )
    one = run(tmp_path / "one", tasks(), settings)
    many = run(tmp_path / "many", tasks(), settings, runner=RUNNER)
    assert many.log == one.log
    assert_same(many.data_dir, one.data_dir)
    assert one.task("en-fr").counts["over train cap"] > 0
    assert one.task("fr-en").counts["over max_length, train"] > 0
    assert (shard_pairs == 70) == ("shards" in one.manifest)


@pytest.mark.parametrize(
    ("specs", "settings", "kind"),
    [
        ([task(), task(target="de", options={"bad": 5})], SETTINGS, errors.DataError),
        ([task(), task("en", "en", name="copy")], SETTINGS, errors.DataError),
        ([task()], dataclasses.replace(SETTINGS, max_length=3), errors.DataError),
        (
            [task()],
            dataclasses.replace(SETTINGS, vocabulary=VocabularyConfig(size=50_000)),
            errors.ConfigError,
        ),
        (  # No pair is drawn for the vocabulary.
            [task()],
            dataclasses.replace(SETTINGS, vocabulary=VocabularyConfig(max_sentences=1)),
            errors.ConfigError,
        ),
    ],
)
def test_errors_are_those_of_one_machine(tmp_path, local, specs, settings, kind):
    messages = []
    for runner in (None, RUNNER):
        with pytest.raises(kind) as caught:
            run(tmp_path, specs, settings, runner=runner)
        messages.append(str(caught.value))
        assert os.listdir(tmp_path) == []
    assert messages[0] == messages[1]


def test_a_given_vocabulary_is_used(tmp_path, local):
    first = run(tmp_path / "a", [task()])
    model = os.path.join(first.data_dir, "vocabulary.model")
    settings = dataclasses.replace(SETTINGS, vocabulary=VocabularyConfig(model_file=model))
    second = run(tmp_path / "b", [task()], settings, runner=RUNNER)
    names = ["en-fr.train.store", "en-fr.test.store", "vocabulary.model"]
    assert filecmp.cmpfiles(first.data_dir, second.data_dir, names, shallow=False)[0] == names


def test_a_worker_without_space_is_an_error_that_leaves_nothing(tmp_path, monkeypatch):
    def run_pipeline(*_):
        raise OSError("[Errno 28] No space left on device [while running 'write']")

    monkeypatch.setattr(distributed, "run_pipeline", run_pipeline)
    with pytest.raises(errors.DataError, match=r"--runner DirectRunner cannot .* No space left"):
        run(tmp_path, [task()], runner=RUNNER)
    assert os.listdir(tmp_path) == []


def test_too_many_parts_are_an_error():
    with pytest.raises(errors.DataError, match=r"part 1048576 of the corpora.*fewer or smaller"):
        steps._order(1 << 20, 0)
    assert steps._order((1 << 20) - 1, (1 << 28) - 1) < 1 << 60
    assert np.uint64(steps._order(1, 0)) > np.uint64(steps._order(0, (1 << 28) - 1))


def test_without_beam_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(errors.ConfigError, match=r"not installed\. Install the extra `beam`"):
        check_runner(RUNNER)


def test_beam_gives_the_files_of_one_machine(tmp_path):
    pytest.importorskip("apache_beam", reason="Apache Beam (the extra `beam`) is not installed")
    with pytest.raises(errors.ConfigError, match="--runner NoRunner"):
        check_runner(Runner("NoRunner"))
    check_runner(RUNNER)
    settings = dataclasses.replace(CAPPED, shard_pairs=70)
    one = run(tmp_path / "one", tasks(), settings)
    many = run(tmp_path / "many", tasks(), settings, runner=RUNNER)
    assert many.log == one.log
    assert_same(many.data_dir, one.data_dir)
