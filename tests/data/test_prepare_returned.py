"""prepare: pairs that no capped dev or test set needs are trained on, and nothing leaks."""

import dataclasses

import pytest
from test_prepare import SETTINGS, read_or_dropped, run, task, texts

from keras_mtl.configuration.schema import CorpusConfig

CAPPED = dataclasses.replace(SETTINGS, dev_pairs=5, test_pairs=3)


def held_out_sources(data):
    """(language, sentence) of every dev and test source."""
    return {
        (entry.source, source)
        for entry in data.tasks
        for part in ("dev", "test")
        for source, _ in texts(data, entry.name, part)
    }


def test_pairs_over_the_caps_are_trained_on(tmp_path):
    data = run(tmp_path, [task()], CAPPED)
    (entry,) = data.tasks
    assert (entry.dev_size, entry.test_size, entry.train_size) == (5, 3, 392)
    assert entry.counts.get("over dev cap", 0) == entry.counts.get("over test cap", 0) == 0
    sources = [source for source, _ in texts(data, "en-fr", "train")]
    assert len(set(sources)) == 392
    assert not held_out_sources(data) & {("en", source) for source in sources}


@pytest.mark.parametrize("given", [[], [CorpusConfig("counting_test", {"begin": 100, "end": 120})]])
def test_nothing_that_another_task_holds_is_returned(tmp_path, given):
    tasks = [task("en", "fr"), task("en", "de"), task("fr", "en"), task("de", "en")]
    tasks[3] = dataclasses.replace(tasks[3], dev_corpora=given)
    data = run(tmp_path, tasks, CAPPED)
    held_out = held_out_sources(data)
    for entry in data.tasks:
        trained = texts(data, entry.name, "train")
        assert len(set(trained)) == len(trained)
        for source, target in trained:
            assert (entry.source, source) not in held_out
            assert (entry.target, target) not in held_out
        assert entry.counts["read"] == read_or_dropped(entry)
        # Without caps, the splits hold out a fifth of 400 sources, and as much of the other side.
        # With them, each task needs 8 sources for dev and test.
        assert entry.train_size >= 400 - 4 * 8 - 20
        assert entry.counts.get("held out", 0) + entry.counts.get("over dev cap", 0) > 0


def test_max_pairs_chooses_the_same_pairs_whatever_the_other_caps(tmp_path):
    few = [task(max_pairs=200)]
    before = run(tmp_path / "whole", few)
    after = run(tmp_path / "capped", few, CAPPED)
    assert texts(after, "en-fr", "train") == texts(before, "en-fr", "train")
    assert after.tasks[0].counts["over dev cap"] > 0
    # Where the pairs of the training split do not fill it, others do.
    most = run(tmp_path / "most", [task(max_pairs=380)], CAPPED)
    assert most.tasks[0].train_size == 380
    assert most.tasks[0].counts["over train cap"] == 12
    assert most.tasks[0].counts["read"] == read_or_dropped(most.tasks[0])
    own = set(texts(run(tmp_path / "own", [task()]), "en-fr", "train"))
    assert own < set(texts(most, "en-fr", "train"))


def test_temporary_files_are_removed(tmp_path):
    data = run(tmp_path, [task(), task(target="de")], CAPPED)
    assert not list((tmp_path / "data").glob("*.text"))
    assert len(data.tasks) == 2
