"""TensorBoard starts in the locked environment and shows what a run has written."""

import sys

import pytest

from keras_mtl.training.run.event_log import EventLog
from tests import tensorboard_server


@pytest.mark.nightly  # training/test_event_log.py
def test_tensorboard_serves_its_page_and_the_scalars_of_a_run(tmp_path):
    with EventLog(tmp_path / "runs" / "one") as log:
        log.train(10, {"en-fr": 3.5}, {"en-fr": 1.0}, 100.0, 0.001)
    output = tmp_path / "output.txt"
    with tensorboard_server.serve(sys.executable, tmp_path / "runs", output) as address:
        assert b"<title>TensorBoard</title>" in tensorboard_server.get(address)
        ((run, tags),) = tensorboard_server.scalar_tags(address).items()
    assert run.startswith("one")
    assert any("en-fr" in tag for tag in tags)
    assert "pkg_resources" not in output.read_text(encoding="utf-8")
