"""Closed and full streams, and lines that are answered before an error and as they come."""

import errno
import io
import os
import pty
import subprocess
import sys
from contextlib import nullcontext

import pytest

from keras_mtl.cli import lines, main, streams
from keras_mtl.errors import InputError
from keras_mtl.files import naming, replace_file
from tests.decoding.tiny_model import LANGUAGES, make_vocabulary

MAIN = [sys.executable, "-m", "keras_mtl"]
LONG = "two trees " * 40


@pytest.fixture(scope="module")
def engine_file(tmp_path_factory):
    """An engine file of random weights."""
    from keras_mtl.configuration.overriding import set_values
    from keras_mtl.configuration.schema import TransformerConfig
    from keras_mtl.decoding.tasks import TranslationTask
    from keras_mtl.export.engine_file import export_engine_file
    from keras_mtl.models.factory import build_transformer

    config = TransformerConfig()
    set_values(
        config,
        {"size": "tiny", "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 16,
         "encoder_layers": 1, "decoder_layers": 1, "max_length": 24}
    )  # fmt: skip
    vocabulary = make_vocabulary()
    model = build_transformer(config, vocabulary.size, ("",))
    tasks = [TranslationTask(name, "en", target) for name, target in LANGUAGES.items()]
    path = tmp_path_factory.mktemp("streams") / "model.kmtl"
    return export_engine_file(model, vocabulary, tasks, path)


def run(words, close=(), **options):
    """Runs the command line with closed descriptors; returns the completed process."""
    options = {"input": b""} | options if "stdin" not in options else options
    streams_of = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options

    def prepare():
        for descriptor in close:
            os.close(descriptor)

    words = [*MAIN, *map(str, words)]
    return subprocess.run(words, preexec_fn=prepare, check=False, timeout=100, **streams_of)


@pytest.mark.parametrize("command", ["", *main.COMMANDS])
def test_every_subcommand_with_closed_streams(command):
    words = [command, "--help"] if command else []
    done = run(words, close=[0, 2])
    assert done.returncode == 0
    assert done.stdout.startswith(b"usage: keras-mtl")
    done = run(words, close=[1])
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: standard output is closed. Redirect it")
    with open("/dev/full", "wb") as full:
        done = run(words, stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: standard output: the disk is full")


def test_messages_that_cannot_be_written_leave_the_exit_code():
    with open("/dev/full", "wb") as full:
        assert run(["no_such_command"], stderr=full).returncode == 2
        words = ["translate", "--task", "en-fr", "--model", "/nowhere"]
        assert run(words, stderr=full).returncode == 2
    assert run(["no_such_command"], close=[0, 1, 2]).returncode == 2


def test_no_file_gets_the_descriptor_of_a_closed_stream(run_python):
    """What a library prints must not be written into a checkpoint."""
    code = (
        "import os\n"
        "for number in range(3): os.close(number)\n"
        "from keras_mtl.cli import streams\n"
        "streams.prepare_streams()\n"
        "assert os.open('/dev/null', os.O_RDONLY) > 2\n"
    )
    assert run_python(code).returncode == 0


@pytest.mark.parametrize("command", ["translate", "score"])
def test_text_commands_with_closed_streams(command, engine_file):
    words = [command, "--model", engine_file, "--task", "en-fr"]
    words += ["--tsv", "-"] if command == "score" else []
    text = b"two trees\tdeux arbres\n" if command == "score" else b"two trees\n"
    done = run(words, close=[0])
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: standard input is closed. Provide text")
    done = run(words, close=[1], input=text)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: standard output is closed")
    want = run(words, input=text)
    assert want.returncode == 0
    done = run(words, close=[2], input=text)
    assert (done.returncode, done.stdout) == (0, want.stdout)  # No message among the results.
    with open("/dev/full", "wb") as full:
        done = run(words, stdout=full, input=text)
    assert done.returncode == 2
    assert done.stderr.endswith(
        b"error: standard output: the disk is full. Free some space and start again\n"
    )


def call(words, text, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    code = main.main(list(map(str, words)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("chunk_lines", [1, 3, 512])
def test_lines_before_an_error_are_translated(chunk_lines, engine_file, monkeypatch, capsys):
    words = ["translate", "--model", engine_file, "--task", "en-fr", "--n_best", 1]
    words += ["--chunk_lines", chunk_lines]
    good = [f"the cat {i}" for i in range(5)]
    code, want, _ = call(words, "\n".join(good).encode(), monkeypatch, capsys)
    assert code == 0
    assert len(want.splitlines()) == 5
    text = "\n".join([*good, LONG, *good]).encode()
    code, out, err = call(words, text, monkeypatch, capsys)
    assert (code, out) == (2, want)
    assert "error: line 6 has" in err
    code, out, err = call([*words, "--on_long_line", "skip"], text, monkeypatch, capsys)
    assert code == 0
    assert out.startswith(want)
    assert out.splitlines()[5] == "6\t0.0000\t"
    assert len(out.splitlines()) == 11
    code, out, err = call([*words, "--on_long_line", "truncate"], text, monkeypatch, capsys)
    assert code == 0
    assert out.splitlines()[5] != "6\t0.0000\t"
    # A line that is not UTF-8 costs none of those before it either.
    text = "\n".join(good).encode() + b"\n\xff\nx"
    code, out, err = call(words, text, monkeypatch, capsys)
    assert (code, out) == (2, want)
    assert "standard input, line 6: byte 1 (0xff) is not UTF-8" in err


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (f"a\t{LONG}", "translation of line 3 has"),
        ("a", "standard input, line 3 has 1 columns"),
    ],
)
def test_lines_before_an_error_are_scored(bad, message, engine_file, monkeypatch, capsys):
    words = ["score", "--model", engine_file, "--task", "en-fr", "--tsv", "-"]
    code, want, _ = call(words, b"a\tb\nc\td\n", monkeypatch, capsys)
    assert code == 0
    code, out, err = call(words, f"a\tb\nc\td\n{bad}\ne\tf".encode(), monkeypatch, capsys)
    assert (code, out) == (2, want)
    assert message in err


def test_score_names_a_missing_file_before_the_model_is_loaded(tmp_path, capsys):
    (tmp_path / "model.kmtl").touch()
    words = ["score", "--model", tmp_path / "model.kmtl", "--task", "x", "--tsv", tmp_path / "no"]
    assert main.main(list(map(str, words))) == 2
    error = capsys.readouterr().err
    assert error == f"error: --tsv {tmp_path}/no: no such file. Check the path\n"


@pytest.mark.parametrize("kind", ["terminal", "pipe"])
def test_a_line_is_answered_before_the_next_one_is_written(kind, engine_file):
    ours, theirs = pty.openpty() if kind == "terminal" else os.pipe()[::-1]
    words = [*MAIN, "translate", "--model", engine_file, "--task", "en-fr", "--n_best", "1"]
    process = subprocess.Popen(
        list(map(str, words)), stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    os.close(theirs)
    try:
        for number in (1, 2, 3):
            os.write(ours, f"the cat {number}\n".encode())
            answer = process.stdout.readline()
            assert answer.startswith(f"{number}\t".encode())
        os.write(ours, b"two\nthree\n")
        assert process.stdout.readline().startswith(b"4\t")
        assert process.stdout.readline().startswith(b"5\t")
        if kind == "terminal":
            os.write(ours, b"\x04")  # Ctrl-D
        else:
            os.close(ours)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, b"")
        assert err.startswith(b"5 lines, ")
        assert err.count(b"\n") == 1
    finally:
        process.kill()
        process.wait()


class Slow(io.RawIOBase):
    """A stream that gives one of its parts at each read."""

    def __init__(self, *parts):
        self._parts = list(parts)

    def readable(self):
        return True

    def readinto(self, buffer):
        part = self._parts.pop(0) if self._parts else b""
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize(
    ("parts", "want"),
    [
        ([b"one\ntwo\n", b"three"], ["one", "two", "three"]),
        ([b"a", b"b\r", b"\n\n", b"\xc3", b"\xa9\n"], ["ab", "", "\u00e9"]),
        ([b"x\n"], ["x"]),
        ([], []),
    ],
)
def test_lines_of_any_parts(parts, want):
    assert list(lines.LineReader(io.BufferedReader(Slow(*parts)), "x")) == want


def test_a_stream_that_cannot_be_read_is_named():
    class Broken(Slow):
        def readinto(self, buffer):
            raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken") as caught:
        list(lines.LineReader(io.BufferedReader(Broken()), "standard input"))
    assert caught.value.filename == "standard input"


@pytest.mark.parametrize("wrong", [0, 3, 4, 6, None])
def test_results_before_an_error(wrong):
    def work(items, first):
        assert items == list(range(first - 10, first - 10 + len(items)))
        if wrong in items:
            raise InputError(f"{wrong}")
        return [item * 2 for item in items]

    found = []
    expected = pytest.raises(InputError, match=f"^{wrong}$") if wrong is not None else nullcontext()
    with expected:
        for first, results in lines.finished_first(work, list(range(7)), 10):
            assert first == 10 + len(found)
            found += results
    assert found == [2 * i for i in range(7 if wrong is None else wrong)]


def test_replaced_files_are_complete_and_errors_name_them(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    assert replace_file(path, "é").read_bytes() == "é".encode()
    replace_file(path, b"second")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        replace_file(path, b"third")
    assert caught.value.filename == str(path)
    assert [file.name for file in path.parent.iterdir()] == ["file"]
    assert path.read_bytes() == b"second"
    with pytest.raises(OSError, match="x") as caught, naming("other"):
        raise OSError(errno.EIO, "x", "own")
    assert caught.value.filename == "own"


def test_streams_of_a_program_that_calls_main_stay(monkeypatch):
    mine = io.StringIO()
    monkeypatch.setattr("sys.stdout", mine)
    streams.prepare_streams()
    assert sys.stdout is mine
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="standard input is closed"):
        streams.standard_input()
