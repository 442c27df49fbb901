"""A checkpoint is complete or not there; a damaged one gives way to the one before it."""

import errno
import itertools
import os
import resource
import signal
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.errors import CheckpointError
from keras_mtl.training.run import checkpoints
from keras_mtl.training.run.checkpoint_copy import CheckpointCopy
from keras_mtl.training.run.checkpoints import ArrayState, RunCheckpoints, copy_checkpoint, read_all


class Run:
    def __init__(self, directory, keep=3, in_background=False, after_save=lambda: None):
        self.weights = tf.Variable(tf.zeros([64]))
        self.cursor = 0
        self.state = ArrayState(lambda: {"mixture/cursor": np.array(self.cursor)})
        self.lines = []
        self.checkpoints = RunCheckpoints(
            directory,
            tf.train.Checkpoint(weights=self.weights, state=self.state),
            keep,
            self.lines.append,
            in_background=in_background,
            after_save=after_save,
        )

    def save(self, step, wait=False):
        self.weights.assign(tf.fill([64], float(step)))
        self.cursor = step
        self.checkpoints.save(step)
        if wait:
            self.checkpoints.wait()


def test_round_trip_of_weights_and_arrays(tmp_path):
    run = Run(tmp_path)
    assert run.checkpoints.restore() is None
    run.save(7)
    again = Run(tmp_path)
    assert again.checkpoints.restore().endswith("ckpt-7")
    np.testing.assert_array_equal(again.weights.numpy(), 7.0)
    assert int(again.state.restored["mixture/cursor"]) == 7


def test_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    """Otherwise a power failure could leave a checkpoint that is listed and empty."""
    done = []
    rename = Path.rename
    monkeypatch.setattr(checkpoints, "sync", lambda path: done.append(("sync", Path(path).name)))
    monkeypatch.setattr(
        Path, "rename", lambda path, to: done.append(("rename", path.name)) or rename(path, to)
    )
    Run(tmp_path).save(5)
    files = [name for what, name in done if what == "rename"]
    assert len(files) == 2
    assert files[-1] == "partial-ckpt-5.index"
    assert sorted(done[:2]) == sorted(("sync", name) for name in files)
    assert done[-1] == ("sync", tmp_path.name)


class KilledError(BaseException):
    """The process ends here; nothing after it runs."""


def kill_at(monkeypatch, call):
    """Ends the process before the `call`-th change of a name in a directory; counts from 0."""
    calls = itertools.count()

    def counted(function):
        def run(*args, **options):
            if next(calls) == call:
                raise KilledError
            return function(*args, **options)

        return run

    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    monkeypatch.setattr(Path, "rename", counted(Path.rename))
    monkeypatch.setattr("os.link", counted(os.link))


def test_a_kill_at_any_moment_of_saving_a_step_again_leaves_a_checkpoint(tmp_path, monkeypatch):
    """A run that stopped before a validation saves the same step again after it."""
    found = []
    for call in itertools.count():
        directory = tmp_path / str(call)
        run = Run(directory, keep=1)
        run.save(5)
        run.cursor = 6  # Of the second checkpoint.
        with monkeypatch.context() as patched:
            kill_at(patched, call)
            try:
                run.checkpoints.save(5)
                killed = False
            except KilledError:
                killed = True
        for tidy in (False, True):  # Another process reads, then the run resumes.
            again = Run(directory, keep=1)
            assert again.checkpoints.restore(tidy=tidy), call
            found.append(int(again.state.restored["mixture/cursor"]))
            np.testing.assert_array_equal(again.weights.numpy(), 5.0)
            assert not again.lines
        again.cursor = 7
        again.checkpoints.save(5)
        again = Run(directory, keep=1)
        again.checkpoints.restore()
        assert int(again.state.restored["mixture/cursor"]) == 7
        again.save(8)
        assert sorted(file.name.split(".")[0] for file in directory.iterdir()) == ["ckpt-8"] * 2
        if not killed:
            break
    assert call > 8
    assert found == sorted(found)
    assert set(found) == {5, 6}


def test_keeps_the_newest_in_order_of_number(tmp_path):
    run = Run(tmp_path, keep=2)
    for step in (8, 9, 10, 11):
        run.save(step)
    assert [path.rsplit("-")[-1] for path in run.checkpoints.paths()] == ["10", "11"]
    assert not list(tmp_path.glob("*partial*"))


@pytest.mark.parametrize("links", [True, False])
def test_a_copy_outlives_its_source_and_can_be_made_again(tmp_path, monkeypatch, links):
    if not links:

        def no_link(*_):
            raise OSError("not on this file system")

        monkeypatch.setattr("os.link", no_link)
    run = Run(tmp_path)
    run.save(3)
    for _ in range(2):
        copy_checkpoint(tmp_path / "ckpt-3", tmp_path / "best" / "ckpt-3")
    for file in tmp_path.glob("ckpt-3.*"):
        file.unlink()
    run.weights.assign(tf.zeros([64]))
    read_all(tf.train.Checkpoint(weights=run.weights), str(tmp_path / "best" / "ckpt-3"))
    np.testing.assert_array_equal(run.weights.numpy(), 3.0)
    assert len(list((tmp_path / "best").iterdir())) == 2


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_damaged_checkpoint_falls_back_and_says_so(tmp_path, suffix, damage):
    run = Run(tmp_path)
    run.save(1)
    run.save(2)
    file = tmp_path / f"ckpt-2.{suffix}"
    content = bytearray(file.read_bytes())
    if damage == "truncate":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[20] ^= 0xFF
    else:
        content = b""
    file.write_bytes(bytes(content))
    again = Run(tmp_path)
    assert again.checkpoints.restore().endswith("ckpt-1")
    np.testing.assert_array_equal(again.weights.numpy(), 1.0)
    assert int(again.state.restored["mixture/cursor"]) == 1
    assert "ckpt-2" in again.lines[0]
    assert (tmp_path / f"damaged-ckpt-2.{suffix}").exists()


def test_missing_data_file_falls_back(tmp_path):
    run = Run(tmp_path)
    run.save(1)
    run.save(2)
    (tmp_path / "ckpt-2.data-00000-of-00001").unlink()
    assert Run(tmp_path).checkpoints.restore().endswith("ckpt-1")


def test_all_damaged_is_an_error_that_names_the_directory(tmp_path):
    run = Run(tmp_path)
    run.save(1)
    (tmp_path / "ckpt-1.index").write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged-"):
        Run(tmp_path).checkpoints.restore()


@pytest.mark.parametrize("in_background", [False, True])
def test_full_disk_keeps_the_old_checkpoint(tmp_path, in_background):
    run = Run(tmp_path, in_background=in_background)
    run.save(1, wait=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))  # A file may grow to 64 bytes.
    try:
        with pytest.raises(CheckpointError, match="ckpt-2 cannot be written"):
            run.save(2, wait=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.rsplit("-")[-1] for path in run.checkpoints.paths()] == ["1"]
    assert not list(tmp_path.glob("partial-*"))
    run.save(3, wait=True)
    assert Run(tmp_path).checkpoints.restore().endswith("ckpt-3")


class Gate:
    """Holds the thread that writes a checkpoint until it is opened."""

    def __init__(self, monkeypatch):
        self.reached, self.open, written = threading.Event(), threading.Event(), checkpoints.sync

        def sync(path):
            self.reached.set()
            assert self.open.wait(60)
            written(path)

        monkeypatch.setattr(checkpoints, "sync", sync)


def test_the_state_may_change_while_it_is_written(tmp_path, monkeypatch):
    gate, done = Gate(monkeypatch), []
    run = Run(tmp_path, in_background=True, after_save=lambda: done.append("saved"))
    run.save(5)  # Returns before the checkpoint is complete.
    assert gate.reached.wait(60)
    run.weights.assign_add(tf.ones([64]))
    run.cursor = 6
    assert run.checkpoints.paths() == []
    assert run.checkpoints.steps() == [5]  # What it needs must not be deleted.
    assert not done
    gate.open.set()
    run.checkpoints.wait()
    assert done == ["saved"]
    again = Run(tmp_path)
    assert again.checkpoints.restore().endswith("ckpt-5")
    np.testing.assert_array_equal(again.weights.numpy(), 5.0)
    assert int(again.state.restored["mixture/cursor"]) == 5


def test_a_checkpoint_waits_for_the_one_before(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    run = Run(tmp_path, keep=1, in_background=True)
    run.save(1)
    threading.Timer(0.2, gate.open.set).start()
    run.save(2)
    assert gate.open.is_set()
    run.checkpoints.wait()
    assert [Path(prefix).name for prefix in run.checkpoints.paths()] == ["ckpt-2"]


def test_closing_reports_a_checkpoint_that_was_not_written(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "sync", full)
    run = Run(tmp_path, in_background=True)
    run.save(1)
    run.checkpoints.close()
    (line,) = run.lines
    assert "ckpt-1 cannot be written" in line
    assert "No space left" in line
    run.checkpoints.close()
    assert len(run.lines) == 1


def test_a_copy_has_the_names_and_values_of_the_original(tmp_path):
    """Also of objects with several names, such as the variables of an optimizer."""
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dropout(0.1)])
    model.build((None, 4))
    optimizer = keras.optimizers.AdamW(use_ema=True)
    optimizer.build(model.trainable_variables)
    saved = tf.train.Checkpoint(
        model=model,
        optimizer=optimizer,
        half=tf.Variable([1.5, 2.5], dtype=tf.bfloat16),
        state=ArrayState(lambda: {"cursor": np.array(3)}),
        list=[tf.Variable(2), {"a": tf.Variable(7, dtype=tf.int64)}],
    )
    copy = CheckpointCopy(saved)
    originals = read_tensors(saved, tmp_path / "original")
    for variable in model.variables:
        variable.assign(keras.ops.ones_like(variable))
    copies = read_tensors(copy.checkpoint(), tmp_path / "copy")
    assert list(copies) == list(originals)
    assert len(copies) > 12
    for name, value in originals.items():
        assert copies[name] == value, name


def read_tensors(checkpoint, prefix):
    reader = tf.train.load_checkpoint(checkpoint.write(str(prefix)))
    names = sorted(reader.get_variable_to_shape_map())
    return {
        name: np.asarray(reader.get_tensor(name)).tobytes()
        for name in names
        if "OBJECT" not in name
    }


def test_what_cannot_be_copied_is_refused():
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1)
    with pytest.raises(CheckpointError, match=r"async_checkpointing.*MutableHashTable"):
        CheckpointCopy(tf.train.Checkpoint(layer=[table]))


def test_what_a_killed_save_left_is_removed(tmp_path):
    Run(tmp_path).save(1)
    (tmp_path / "partial-ckpt-2.data-00000-of-00001").write_bytes(b"half")
    Run(tmp_path).checkpoints.restore()
    assert not list(tmp_path.glob("partial-*"))
