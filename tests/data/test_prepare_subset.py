"""prepare: data of many tasks serves a run of some of them."""

import dataclasses

import pytest
from test_prepare import SETTINGS, run, task, texts

from keras_mtl import errors
from keras_mtl.data.prepare import load_prepared

ALL = [task("en", "fr"), task("en", "de"), task("fr", "en")]


def test_data_of_more_tasks_is_used_as_it_is(tmp_path):
    whole = run(tmp_path, ALL)
    some = run(tmp_path, [ALL[0], ALL[2]])
    assert [entry.name for entry in some.tasks] == ["en-fr", "fr-en"]
    assert texts(some, "fr-en", "train") == texts(whole, "fr-en", "train")
    assert some.vocabulary.hash == whole.vocabulary.hash
    assert some.log[-1].endswith("tasks that are not used: en-de")
    with pytest.raises(errors.DataError, match="no task 'en-de'"):
        some.task("en-de")
    again = run(tmp_path, ALL)  # Nothing was lost.
    assert [entry.name for entry in again.tasks] == ["en-fr", "en-de", "fr-en"]


@pytest.mark.parametrize(
    ("tasks", "settings", "named"),
    [
        ([ALL[0], task("de", "en")], SETTINGS, "de-en"),
        ([ALL[2], ALL[0]], SETTINGS, "task_order"),
        ([task("en", "fr", max_pairs=9)], SETTINGS, "max_pairs"),
        ([ALL[0]], dataclasses.replace(SETTINGS, dev_pairs=7), "dev_pairs"),
    ],
)
def test_other_tasks_orders_and_settings_are_still_named(tmp_path, tasks, settings, named):
    run(tmp_path, ALL)
    with pytest.raises(errors.DataError, match=named):
        run(tmp_path, tasks, settings)


def test_loading_names_a_task_that_is_not_there(tmp_path):
    run(tmp_path, ALL)
    assert len(load_prepared(tmp_path / "data", ["en-de"]).tasks) == 1
    with pytest.raises(errors.DataError, match="no task 'en-xx'"):
        load_prepared(tmp_path / "data", ["en-xx"])
