"""Evaluation of tasks: which pairs, which scores, which report; the likelihood of references."""

import dataclasses
import json
import math

import numpy as np
import pytest

from keras_mtl.errors import ConfigError, DataError
from keras_mtl.evaluation.evaluator import CopySource, Evaluator, spread
from keras_mtl.evaluation.likelihood import ModelLikelihood, PairIds
from keras_mtl.evaluation.reports import write_report
from keras_mtl.evaluation.results import TaskResult, macro_average
from keras_mtl.evaluation.stopping import EvaluationStopped
from keras_mtl.evaluation.translations import read_translations, write_translations


class Reader:
    """A store in memory: pair i is a source and a target of ids, sorted by length."""

    def __init__(self, pairs, texts):
        self.pairs, self.texts = pairs, texts
        self.has_text = texts is not None

    def __len__(self):
        return len(self.pairs)

    def text(self, index):
        return self.texts[index]

    def gather(self, indices):
        chosen = [self.pairs[index] for index in indices]
        return [np.array(s) for s, _ in chosen], [np.array(t) for _, t in chosen]


@dataclasses.dataclass
class Task:
    name: str
    target: str


class Prepared:
    def __init__(self, **readers):
        self.readers = readers
        self.tasks = [Task(name, name[-2:]) for name in readers]

    def reader(self, task, split):
        return self.readers[task]


class Reverse:
    """Translates by reversing the words; remembers what it was asked."""

    def __init__(self):
        self.calls = []

    def translate(self, lines, task):
        self.calls.append((task, list(lines)))
        return [" ".join(reversed(line.split())) for line in lines]


def corpus(count):
    words = [" ".join(f"w{i}x{j}" for j in range(4 + i % 3)) for i in range(count)]
    texts = [(text, " ".join(reversed(text.split()))) for text in words]
    return Reader([([4] * 3, [5] * 3)] * count, texts)


def test_every_task_gets_its_own_scores():
    prepared = Prepared(xx_yy=corpus(5), xx_zz=corpus(3))
    translator = Reverse()
    results = Evaluator(prepared, translator).evaluate()
    assert list(results) == ["xx_yy", "xx_zz"]
    assert [task for task, _ in translator.calls] == ["xx_yy", "xx_zz"]
    assert results["xx_yy"].pairs == 5
    assert results["xx_yy"].bleu == pytest.approx(100)
    assert results["xx_zz"].chrf == pytest.approx(100)
    assert results["xx_zz"].neg_log_perplexity is None
    assert results["xx_yy"].signatures["bleu"].startswith("nrefs:1|")
    assert results["xx_yy"].hypotheses == results["xx_yy"].references


def test_a_task_is_scored_only_by_its_own_metrics():
    """So it needs no packages for the metrics of other tasks, and no translations for a loss."""
    prepared, translator = Prepared(xx_fr=corpus(3), xx_ja=corpus(4), xx_yy=corpus(5)), Reverse()
    own = {"xx_fr": ["bleu_by_language"], "xx_ja": ["chrf"], "xx_yy": ["neg_log_perplexity"]}
    results = Evaluator(prepared, translator, likelihood=OfOneNat(), own_metrics=own).evaluate()
    assert {task: list(result.scores) for task, result in results.items()} == own
    assert [task for task, _ in translator.calls] == ["xx_fr", "xx_ja"]
    assert results["xx_yy"].neg_log_perplexity == -1.0
    with pytest.raises(ConfigError, match="'neg_log_perplexity' requires the model"):
        Evaluator(prepared, translator, own_metrics=own)
    with pytest.raises(ConfigError, match="metrics is empty"):
        Evaluator(prepared, translator, own_metrics={"xx_fr": []})


class OfOneNat:
    """A likelihood of one nat for each of ten tokens."""

    def total(self, task, reader, indices, stopped=None):
        return 10.0, 10.0


def test_the_copied_source_is_the_score_to_beat():
    results = Evaluator(Prepared(xx_yy=corpus(5)), CopySource()).evaluate()
    assert results["xx_yy"].bleu < 50


def test_the_pairs_are_the_same_each_time_and_spread_over_all_lengths():
    assert spread(10, 3).tolist() == [1, 5, 8]
    assert spread(3, 10).tolist() == [0, 1, 2]
    assert spread(3, None).tolist() == [0, 1, 2]
    for count, most in ((1000, 200), (201, 200), (7, 1), (2**40, 1000)):
        places = spread(count, most)
        assert len(set(places.tolist())) == most
        assert 0 <= places[0] < places[-1] < count or most == 1
    translator = Reverse()
    evaluator = Evaluator(Prepared(xx_yy=corpus(9)), translator, max_pairs=4)
    evaluator.evaluate()
    evaluator.evaluate()
    assert translator.calls[0] == translator.calls[1]
    assert len(translator.calls[0][1]) == 4


def test_an_evaluation_may_stop_within_a_task():
    translator, answers = Reverse(), iter([False, False, True])
    evaluator = Evaluator(Prepared(xx_yy=corpus(9)), translator, pairs_at_once=4)
    with pytest.raises(EvaluationStopped, match="xx_yy"):
        evaluator.evaluate(stopped=lambda: next(answers))
    assert [len(lines) for _, lines in translator.calls] == [4, 4]
    # In parts it gives what it gives as a whole.
    parts, whole = evaluator.evaluate(stopped=lambda: False), evaluator.evaluate()
    assert parts["xx_yy"].hypotheses == whole["xx_yy"].hypotheses
    assert parts["xx_yy"].scores == whole["xx_yy"].scores


def test_text_that_a_store_does_not_keep_comes_from_its_tokens():
    class Numbers:
        def decode_batch(self, batch):
            return [" ".join(f"w{token}x{token}" for token in row) for row in batch]

        @property
        def source(self):
            return self

    prepared = Prepared(xx_yy=Reader([([i, 2, 3, 4], [4, 3, 2, i]) for i in range(5, 9)], None))
    prepared.vocabulary = Numbers()
    (result,) = Evaluator(prepared, Reverse(), split="train").evaluate().values()
    assert result.sources[0] == "w5x5 w2x2 w3x3 w4x4"
    assert result.bleu == pytest.approx(100)


def test_a_report_is_json_with_macro_averages(tmp_path):
    prepared = Prepared(xx_yy=corpus(5), xx_zz=corpus(3))
    results = Evaluator(prepared, Reverse(), metrics=["chrf"], split="test").evaluate()
    path = write_report(tmp_path / "deep/evaluation.json", results, split="test", step=7)
    report = json.loads(path.read_text())
    assert report["split"] == "test"
    assert report["step"] == 7
    assert report["macro_average"]["chrf"] == pytest.approx(100)
    assert report["tasks"]["xx_zz"]["pairs"] == 3
    assert "nc:6" in report["signatures"]["chrf"]
    kept = read_translations(tmp_path / "deep/evaluation/xx_zz.jsonl")
    assert [row.hypothesis for row in kept] == results["xx_zz"].hypotheses
    assert [row.reference for row in kept] == results["xx_zz"].references
    assert kept[0].source == prepared.readers["xx_zz"].texts[0][0]
    assert not list(tmp_path.glob("**/*.partial"))
    with pytest.raises(ConfigError, match="'bleu' was not evaluated"):
        macro_average(results, "bleu")


def test_what_cannot_be_evaluated_is_named():
    prepared = Prepared(xx_yy=corpus(2))
    with pytest.raises(ConfigError, match="unknown task 'xx_y'; did you mean 'xx_yy'"):
        Evaluator(prepared, Reverse(), tasks=["xx_y"])
    with pytest.raises(ConfigError, match="unknown metric 'blue'"):
        Evaluator(prepared, Reverse(), metrics=["blue"])
    with pytest.raises(ConfigError, match="unknown split 'tests'; did you mean 'test'"):
        Evaluator(prepared, Reverse(), split="tests")
    with pytest.raises(ConfigError, match="max_pairs must be at least 1, got 0"):
        Evaluator(prepared, Reverse(), max_pairs=0)
    with pytest.raises(ConfigError, match="requires a translator"):
        Evaluator(prepared, None)
    with pytest.raises(ConfigError, match="neg_log_perplexity"):
        Evaluator(prepared, Reverse(), metrics=["neg_log_perplexity"])
    with pytest.raises(DataError, match=r"task 'xx_yy' has no dev pair.*dev_fraction"):
        Evaluator(Prepared(xx_yy=corpus(0)), Reverse())


def test_translations_keep_every_character_and_a_damaged_file_is_named(tmp_path):
    texts = ["two\nlines", "a\u2028b\x85c", "", '"quoted" \\', "Ünï\U0001f600"]
    result = TaskResult(5, {}, {}, 0.0, texts, texts[::-1], texts)
    directory = write_translations(
        tmp_path / "out", {"t": result, "none": TaskResult(5, {}, {}, 0.0)}
    )
    rows = read_translations(directory / "t.jsonl")
    assert rows == list(zip(texts, texts, texts[::-1], strict=True))
    assert [path.name for path in directory.iterdir()] == ["t.jsonl"]
    with open(directory / "t.jsonl", "a", encoding="utf-8") as file:
        file.write('{"source": "a", "hypothesis": 3, "reference": ""}\n')
    with pytest.raises(
        DataError, match=r"t\.jsonl:6: not a translation .*not text.*Evaluate again"
    ):
        read_translations(directory / "t.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_translations(directory / "none.jsonl")


class Table:
    """A model in which decoder d gives id 4 + d probability 1/2, and all else shares the rest.

    Also checks what evaluation feeds it.
    """

    vocabulary = 10

    def __init__(self):
        self.shapes = set()

    def token_losses(self, inputs, smoothing=0.0, training=False, drop_padding=False):
        import tensorflow as tf

        assert training is False
        assert smoothing == 0.0
        target = inputs["target"]
        self.shapes.add(tuple(target.shape))
        rest = tf.math.log(0.5 / (self.vocabulary - 1))
        tagged = inputs["source"][:, :1] == 9
        right = tagged & (target == 4 + inputs["decoder"][:, None])
        counted = tf.cast(target != 0, tf.float32)
        nll = -tf.reduce_sum(counted * tf.where(right, math.log(0.5), rest), axis=1)
        return nll, tf.reduce_sum(counted, axis=1), nll


def test_the_likelihood_counts_every_real_token_once():
    # 70 pairs: three batches of 32 rows, the last one padded with empty rows.
    pairs = [([6] * (1 + i // 8), [5] * (1 + i // 4)) for i in range(70)]
    model = Table()
    likelihood = ModelLikelihood(model, PairIds(tag_ids={"t": 9}, decoders={"t": 1}, eos_id=2))
    evaluator = Evaluator(
        Prepared(t=Reader(pairs, [])), None, ["neg_log_perplexity"], likelihood=likelihood
    )
    (result,) = evaluator.evaluate().values()
    tokens = sum(len(target) for _, target in pairs)
    expected = (tokens * math.log(0.5) + 70 * math.log(0.5 / 9)) / (tokens + 70)
    assert result.neg_log_perplexity == pytest.approx(expected, rel=1e-5)
    assert result.pairs == 70
    assert not result.hypotheses
    assert len(model.shapes) == 2  # lengths 16 and 32
