"""docs/extending.md: its reader and its metrics work; the contract of schedules tries the first."""

import re
import sys
from pathlib import Path

import pytest

from keras_mtl import metrics, plugins
from keras_mtl.data import corpora
from keras_mtl.data.corpora import base

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Imports an example of the page as a plug-in; what it registers is forgotten again."""
    monkeypatch.setattr(metrics, "_METRICS", dict(metrics._METRICS))
    monkeypatch.setattr(base._READERS, "classes", dict(base._READERS.classes))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def load(word):
        (code,) = (each for each in CODE if word in each)
        (tmp_path / f"extending_{word}.py").write_text(code, encoding="utf-8")
        plugins.load([f"{tmp_path}/extending_{word}"])
        monkeypatch.delitem(sys.modules, f"extending_{word}")

    return load


def test_the_reader(example, tmp_path):
    example("ThreeLines")
    (tmp_path / "a.txt").write_bytes(b"one\nun\n\ntwo\n\xff\n\nthree\ntrois\n\n")
    made = corpora.create_reader("three_lines", "en", "fr", {"file": str(tmp_path / "*.txt")})
    stream = corpora.read_pairs(made, 1.0)
    assert [(p.source, p.target, p.line) for p in stream] == [
        ("one", "un", 1),
        ("three", "trois", 7),
    ]
    assert stream.report() == [f"{tmp_path}/a.txt:4: a line that cannot be read"]
    assert made.paths() == [str(tmp_path / "a.txt")]


def test_the_metrics(example):
    example("exact_match")
    assert metrics.score("exact_match", ["a", "b"], ["a", "c"]).value == 50.0
    assert metrics.loss_score("perplexity", 0.0, 3).value == 1.0
    assert not metrics.higher_is_better("perplexity")
