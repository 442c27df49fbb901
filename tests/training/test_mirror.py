"""A run in a bucket trains in a local copy; what is killed anywhere resumes on another machine.

TensorFlow's file system `ram://` stands for `gs://`.
"""

import os
import uuid

import mirror_case
import pytest

from keras_mtl.errors import CheckpointError
from keras_mtl.remote_files import RemoteDirectory
from keras_mtl.training.run import mirror
from keras_mtl.training.run.mirror import RunMirror, local_run_directory
from tests import buckets, processes


@pytest.fixture
def url(tmp_path, monkeypatch):
    return f"{buckets.new_url(monkeypatch, tmp_path / 'cache')}/runs/my"


@pytest.fixture
def new_machine(tmp_path, monkeypatch):
    """Calling it moves to a machine with an empty cache."""

    def move():
        monkeypatch.setenv("KERAS_MTL_CACHE", str(tmp_path / uuid.uuid4().hex))

    return move


def checkpoint(directory, step, content=b"weights"):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"ckpt-{step}.data-00000-of-00001").write_bytes(content)
    (directory / f"ckpt-{step}.index").write_bytes(b"index")


def drop_checkpoint(directory, step):
    for file in directory.glob(f"ckpt-{step}.*"):
        file.unlink()


def complete(names):
    """The steps of the checkpoints of which the index is there, each with its data."""
    steps = [name.removesuffix(".index") for name in names if name.endswith(".index")]
    assert all(f"{step}.data-00000-of-00001" in names for step in steps), names
    return steps


def test_changes_go_to_the_bucket_and_come_back_on_another_machine(url, new_machine):
    with local_run_directory(url, True, print) as (local, upload):
        checkpoint(local, 10)
        checkpoint(local / "best", 10)
        (local / "metrics.jsonl").write_text("{}\n")
        upload()
        checkpoint(local, 20)
        drop_checkpoint(local, 10)
        (local / "metrics.jsonl").write_text("{}\n{}\n")
        (local / "partial-ckpt-30.index").touch()
        (local / "data").mkdir()
        (local / "data" / "manifest.json").touch()
    new_machine()
    with local_run_directory(url, False, print) as (other, _):
        assert other != local
        assert sorted(path.relative_to(other).as_posix() for path in other.rglob("*.*")) == [
            "best/ckpt-10.data-00000-of-00001",
            "best/ckpt-10.index",
            "ckpt-20.data-00000-of-00001",
            "ckpt-20.index",
            "metrics.jsonl",
        ]
        assert (other / "metrics.jsonl").read_text() == "{}\n{}\n"


def test_the_bucket_has_a_complete_checkpoint_at_every_moment(url, monkeypatch):
    """Each call that changes the bucket is the last one before the machine is taken away."""
    made = []
    for name in ("upload", "remove"):
        call = getattr(RemoteDirectory, name)

        def counted(self, *words, call=call):
            call(self, *words)
            made.append(complete(self.files()))

        monkeypatch.setattr(RemoteDirectory, name, counted)
    with local_run_directory(url, True, print) as (local, upload):
        checkpoint(local, 10)
        upload()
        first = len(made)
        checkpoint(local, 20)
        drop_checkpoint(local, 10)
    assert made[first - 1] == ["ckpt-10"]
    assert all(made[first:])
    assert made[-1] == ["ckpt-20"]


def test_a_checkpoint_comes_after_the_weights_that_it_refers_to(url, monkeypatch):
    made = []
    upload_file = RemoteDirectory.upload

    def counted(self, path, name):
        upload_file(self, path, name)
        made.append(name)

    monkeypatch.setattr(RemoteDirectory, "upload", counted)
    with local_run_directory(url, True, print) as (local, _):
        for directory in (local, local / "best", local / "pending" / "10-15"):
            checkpoint(directory, 10)
    assert len(made) == 6
    assert made[-1] == "ckpt-10.index"


def test_each_worker_of_a_machine_has_its_own_copy(url):
    with local_run_directory(url, True, print) as (local, upload):
        checkpoint(local, 10)
        upload()
        with local_run_directory(url, False, print, worker=1) as (other, _):
            assert other != local
            assert complete([path.name for path in other.iterdir()]) == ["ckpt-10"]


def test_only_what_has_changed_is_copied(url, monkeypatch):
    uploaded = []
    upload_file = RemoteDirectory.upload
    monkeypatch.setattr(
        RemoteDirectory,
        "upload",
        lambda self, path, name: (uploaded.append(name), upload_file(self, path, name)),
    )
    with local_run_directory(url, True, print) as (local, upload):
        checkpoint(local, 10)
        upload()
        assert uploaded == ["ckpt-10.data-00000-of-00001", "ckpt-10.index"]
        uploaded.clear()
        (local / "metrics.jsonl").write_text("{}\n")
        upload()
        assert uploaded == ["metrics.jsonl"]


def test_a_run_that_was_taken_over_ends_without_changing_the_bucket(url, new_machine):
    first = RunMirror(url, print)
    first.fetch()
    first.take_over()
    new_machine()  # The first one still runs: its machine was only believed to be lost.
    with local_run_directory(url, True, print) as (other, _):
        checkpoint(other, 10, b"theirs")
    checkpoint(first.local, 10, b"ours")
    with pytest.raises(CheckpointError, match=f"{url}: another process has started to train in it"):
        first.upload()
    assert RemoteDirectory(url).read("ckpt-10.data-00000-of-00001") == b"theirs"


def test_a_run_that_is_taken_over_while_it_copies_leaves_no_newer_checkpoint(
    url, new_machine, monkeypatch
):
    first = RunMirror(url, print)
    first.take_over()
    first.fetch()
    checkpoint(first.local, 10)
    first.upload()
    checkpoint(first.local, 20)
    list_files, upload_file = RemoteDirectory.files, RemoteDirectory.upload

    def listed_at_last(self):
        """The first one copies its next checkpoint just after the second one has listed."""
        found = list_files(self)
        monkeypatch.setattr(RemoteDirectory, "files", list_files)
        with pytest.raises(CheckpointError, match="another process has started to train"):
            first.upload()
        return found

    def taken_over_after(self, path, name):
        """The second one starts after the first one has copied a file."""
        monkeypatch.setattr(RemoteDirectory, "upload", upload_file)
        upload_file(self, path, name)
        new_machine()
        monkeypatch.setattr(RemoteDirectory, "files", listed_at_last)
        with local_run_directory(url, True, print) as (other, _):
            assert complete(os.listdir(other)) == ["ckpt-10"]

    monkeypatch.setattr(RemoteDirectory, "upload", taken_over_after)
    with pytest.raises(CheckpointError, match="another process has started to train"):
        first.upload()
    assert "ckpt-20.index" not in RemoteDirectory(url).files()


def test_a_second_process_of_the_machine_is_refused(url):
    with (
        local_run_directory(url, True, print),
        pytest.raises(CheckpointError, match="another process on this machine is using ram://"),
        local_run_directory(url, True, print),
    ):
        pass


def test_a_network_that_fails_for_a_while_does_not_end_the_run(url, monkeypatch):
    monkeypatch.setattr(mirror, "_PAUSES", (0.0,))
    upload_file, failures = RemoteDirectory.upload, [OSError(5, "no route", url)] * 3

    def upload_or_fail(self, path, name):
        if failures:
            raise failures.pop()
        upload_file(self, path, name)

    monkeypatch.setattr(RemoteDirectory, "upload", upload_or_fail)
    lines = []
    with local_run_directory(url, True, lines.append) as (local, upload):
        checkpoint(local, 10)
        upload()  # Two failures.
        assert f"--model_dir {url} cannot be written: no route" in lines[-1]
        checkpoint(local, 20)
        upload()  # One failure.
        assert complete(RemoteDirectory(url).files()) == ["ckpt-10", "ckpt-20"]


def test_a_run_does_not_end_well_if_its_last_checkpoint_was_not_copied(url, monkeypatch):
    def fail(self, path, name):
        raise OSError(5, "no route", url)

    monkeypatch.setattr(mirror, "_PAUSES", (0.0,))
    run = RunMirror(url, print)
    run.fetch()
    run.take_over()
    checkpoint(run.local, 10)
    monkeypatch.setattr(RemoteDirectory, "upload", fail)
    with pytest.raises(CheckpointError, match="cannot be written: no route; check the name, your"):
        run.finish()


def test_a_url_of_an_unknown_kind_is_an_error():
    with (
        pytest.raises(
            CheckpointError, match=r"s3://b/my cannot be written: TensorFlow has no file"
        ),
        local_run_directory("s3://b/my", True, print),
    ):
        pass


def test_a_local_directory_is_used_as_it_is(tmp_path):
    with local_run_directory(tmp_path / "my", True, print) as (local, upload):
        upload()
        assert local == tmp_path / "my"
    assert not local.exists()


@pytest.mark.nightly  # Three trainings. The tests above end at every change of a bucket.
def test_a_run_that_changes_machines_equals_one_that_stays(tmp_path):
    processes.run(mirror_case.change_machines, tmp_path)
