"""docs/reference/features.md says what is true: each of its cells is tried."""

import json
from pathlib import Path

import pytest

from keras_mtl.configuration import files
from tests import processes
from tests.features import cells, listing

TRIALS = listing.trials()
DEFAULT = TRIALS["The default Transformer"]


def test_the_page_is_that_of_the_list():
    found = listing.PAGE.read_text(encoding="utf-8")
    assert found == listing.page(), "run `python -m tests.features.listing`"


def test_every_feature_can_be_configured():
    """Before a run: the fields exist and fit each other."""
    for feature in (*listing.features(), *TRIALS.values()):
        if "imports" not in feature.override:  # A plug-in imports TensorFlow.
            values = listing.merged(cells.BASE, feature.override)
            assert files.load_experiment(params_override=[json.dumps(values)])


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The runs of the default Transformer, with which others are compared."""
    directory = tmp_path_factory.mktemp("base")
    processes.run(cells.attempt, DEFAULT, directory, directory, ["train"], "base.json")
    assert json.loads((directory / "base.json").read_text())["train"][0] == ""
    return directory


def try_all(feature, directory, base):
    """Tries every cell of a feature; returns {column: (error, CPU seconds)}."""
    own = [column for column in feature.columns if column not in ("mirrored", "workers")]
    found = {}

    def finish(running, file):
        code, output, error = running.finish()
        assert code == 0, output + error
        found.update(json.loads((directory / file).read_text()))

    # In the order in which they need each other.
    own.sort(key=list(cells.CELLS).index)
    finish(
        processes.Forked(cells.attempt, feature, directory, base, own, "one.json"),
        "one.json",
    )
    # Devices are made at the start of a process.
    finish(
        processes.Forked(cells.attempt, feature, directory, base, ["mirrored"], "two.json"),
        "two.json",
    )
    cluster = [f"127.0.0.1:{port}" for port in processes.free_ports(2)]
    both = [
        processes.Forked(cells.attempt_as_worker, feature, directory, base, cluster, index)
        for index in range(2)
    ]
    for index, running in enumerate(both):
        finish(running, f"worker-{index}.json")
    if not found["workers"][0] and not found["mirrored"][0]:
        cells.assert_same_run(directory / "mirrored", directory / "workers", cells.LEAST)
    return found


@pytest.mark.nightly  # Half a minute for each of them; tests of the parts protect the same.
@pytest.mark.parametrize("name", TRIALS)
def test_each_cell(name, base, tmp_path, record_property):
    feature = TRIALS[name]
    found = try_all(feature, tmp_path, base)
    record_property("seconds", {column: round(used, 1) for column, (_, used) in found.items()})
    wrong = {}
    for column, (error, _) in found.items():
        wanted = feature.refused.get(column)
        fits = error == "" if wanted is None else error.startswith("refused") and wanted in error
        if not fits:
            wrong[column] = error or "works, but the list says that it is refused"
    assert not wrong
