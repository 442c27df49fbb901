"""`translate`, `score`, `evaluate` and `benchmark` with the engine, from the command line."""

import io
import json
import math

import numpy as np
import pytest

from keras_mtl.cli.common import parse_options
from keras_mtl.cli.main import main
from keras_mtl.decoding.engine_translator import EngineTranslator
from keras_mtl.errors import InputError
from keras_mtl.export.engine_file import export_engine_file
from tests.decoding import tiny_model


@pytest.fixture(scope="module")
def trained(copy_trained_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "model"
    model, vocabulary, tasks = tiny_model.load(copy_trained_model(path))
    export_engine_file(model, vocabulary, tasks, path.parent / "model.kmtl", weight_type="int8")
    return path


def call(words, monkeypatch, capsys, text=""):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code = main(list(map(str, words)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_translate_with_an_engine_file(trained, monkeypatch, capsys):
    file = trained.parent / "model.kmtl"
    words = ["translate", "--model", file, "--task", "en-fr", "--beam_size", 2, "--n_best", 2]
    words += ["--max_length", 9, "--options", "no_repeat_ngram=1,suppress=[70,71]"]
    code, out, err = call(words, monkeypatch, capsys, "two trees\n\n")
    assert code == 0, err
    options = {"beam_size": 2, "num_hypotheses": 2, "max_length": 9, "no_repeat_ngram": 1}
    want = EngineTranslator(file, {**options, "suppress": [70, 71]})
    want = [h for found in want.hypotheses(["two trees", ""], "en-fr") for h in found]
    assert out.splitlines() == [
        f"{number}\t{h.score:.4f}\t{h.text}" for number, h in zip([1, 1, 2], want, strict=True)
    ]
    assert "tokens/s" in err


def test_translate_prints_all_of_a_hypothesis_as_json(trained, monkeypatch, capsys):
    file = trained.parent / "model.kmtl"
    words = ["translate", "--model", file, "--task", "en-fr", "--n_best", 2, "--output", "jsonl"]
    code, out, err = call([*words, "--alignments"], monkeypatch, capsys, 'two "trees"\n\n')
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["line"], line["source"]) for line in lines] == [(1, 'two "trees"'), (2, "")]
    want = EngineTranslator(file, {"num_hypotheses": 2}).hypotheses(
        ['two "trees"', ""], "en-fr", alignments=True
    )
    assert lines[0]["source_tokens"] == list(want[0][0].source_tokens)
    for line, hypotheses in zip(lines, want, strict=True):
        for have, h in zip(line["hypotheses"], hypotheses, strict=True):
            assert (have["text"], have["ids"]) == (h.text, h.ids)
            assert (tuple(have["tokens"]), have["ended"]) == (h.tokens, h.ended)
            for name in ("score", "log_probability", "token_scores"):
                np.testing.assert_allclose(have[name], getattr(h, name), atol=1e-6)
            if h.alignment is not None:
                np.testing.assert_allclose(have["alignment"], h.alignment, atol=1e-6)
    code, out, _ = call(words, monkeypatch, capsys, "two trees\n")
    assert "alignment" not in json.loads(out)["hypotheses"][0]
    assert "source_tokens" not in json.loads(out)
    code, _, err = call([*words, "--scores"], monkeypatch, capsys)
    assert code == 2
    assert "--scores requires --output text" in err
    code, _, err = call([*words[:-2], "--alignments"], monkeypatch, capsys)
    assert code == 2
    assert "--alignments requires --output jsonl" in err


def test_score_a_model_directory_on_both_backends(trained, tmp_path, monkeypatch, capsys):
    (tmp_path / "a").write_text("two trees\n\ngood morning\n")
    (tmp_path / "b").write_text("deux arbres\nbonjour\n\n")
    words = ["score", "--model", trained, "--task", "en-fr", "--tokens", "--chunk_lines", 2]
    words += ["--source", tmp_path / "a", "--target", tmp_path / "b"]
    totals = []
    for backend in ("native", "tf"):
        code, out, err = call([*words, "--backend", backend], monkeypatch, capsys)
        assert code == 0, err
        rows = [line.split("\t") for line in out.splitlines()]
        assert len(rows) == 3
        total, count = 0.0, 0
        for columns in rows:
            values = [float(column.rsplit(" ", 1)[1]) for column in columns[2:]]
            assert int(columns[1]) == len(values)
            assert columns[-1].startswith("</s> ")
            np.testing.assert_allclose(float(columns[0]), sum(values), atol=1e-3)
            total, count = total + sum(values), count + len(values)
        perplexity = float(err.split("perplexity ")[1])
        np.testing.assert_allclose(perplexity, math.exp(-total / count), rtol=1e-3)
        totals.append([float(columns[0]) for columns in rows])
    np.testing.assert_allclose(*totals, atol=2e-3)


def test_score_of_a_table_and_what_it_refuses(trained, tmp_path, monkeypatch, capsys):
    words = ["score", "--model", trained.parent / "model.kmtl", "--task", "en-uk"]
    code, out, _ = call([*words, "--tsv", "-"], monkeypatch, capsys, "two trees\tдва дерева\n")
    assert code == 0
    assert float(out.split("\t")[0]) < 0
    for arguments, text, message in [
        (["--tsv", "-"], "one column\n", "line 1 has 1 columns"),
        (["--tsv", "-"], "ab\t" + "two trees " * 40 + "\n", "translation of line 1 has"),
        (["--tsv", "-", "--source", "x"], "", "give --source and --target, or only --tsv"),
        (["--source", trained / "tasks.json"], "", "give --source and --target"),
        (["--tsv", "-", "--backend", "tf"], "", "backend tf cannot read it"),
    ]:
        code, _, err = call([*words, *arguments], monkeypatch, capsys, text)
        assert code == 2
        assert message in err
    (tmp_path / "short").write_text("a\n")
    (tmp_path / "long").write_text("a\nb\n")
    files = ["--source", tmp_path / "long", "--target", tmp_path / "short"]
    code, _, err = call([*words, *files], monkeypatch, capsys)
    assert code == 2
    assert "short ends before line 2" in err


def test_benchmark_names_what_it_cannot_measure(tmp_path, capsys):
    (tmp_path / "saved_model.pb").write_bytes(b"count_tokens max_source_tokens")
    assert main(["benchmark", "--model", str(tmp_path)]) == 2
    assert (
        "is an exported SavedModel; it can be used only with `keras-mtl translate`"
        in capsys.readouterr().err
    )


def test_benchmark_prints_a_table(trained, monkeypatch, capsys):
    words = ["benchmark", "--model", trained.parent / "model.kmtl", "--seconds", 0.01]
    words += ["--batch_sizes", 1, 3, "--workers", 2, "--source_tokens", 5, "--target_tokens", 4]
    code, out, err = call(words, monkeypatch, capsys)
    assert code == 0, err
    lines = out.splitlines()
    assert "hidden_dim 32" in lines[0]
    assert lines[-3].split() == [
        *("type", "isa", "workers", "batch", "1", "batch", "3", "MB", "load", "s")
    ]
    for line, kind in zip(lines[-2:], ("float32", "int8"), strict=True):
        cells = line.split()
        assert cells[0] == kind
        assert cells[2] == "2"
        assert all(float(cell.replace(",", "")) > 0 for cell in cells[3:6])
    words[-1] = 999
    code, _, err = call(words, monkeypatch, capsys)
    assert code == 2
    assert "48 positions" in err


def test_a_model_directory_without_tensorflow_is_a_message(trained, tmp_path, run_python):
    code = (
        "import sys\n"
        "for name in ('absl', 'tensorflow', 'keras', 'official', 'yaml', 'sacrebleu'):\n"
        "    sys.modules[name] = None\n"  # An import of it fails as of a missing package.
        "from keras_mtl.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["translate", "--task", "en-fr", "--model"]
    done = run_python(code, *words, str(trained))
    assert done.returncode == 2, done.stderr
    assert "is not installed. Install keras_mtl with its dependencies" in done.stderr
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("two trees\tdeux arbres\n")
    words = ["score", "--task", "en-fr", "--tsv", str(pairs), "--model"]
    done = run_python(code, *words, str(trained.parent / "model.kmtl"))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) < 0


def test_options_of_the_command_line():
    text = "alpha=0.5, length_penalty=gnmt,suppress=[3,4],sampling=true,max_length_factor=null"
    assert parse_options(text) == {
        "alpha": 0.5,
        "length_penalty": "gnmt",
        "suppress": [3, 4],
        "sampling": True,
        "max_length_factor": None,
    }
    with pytest.raises(InputError, match="'beam_size' is not NAME=VALUE"):
        parse_options("alpha=1,beam_size")


def test_evaluate_scores_pairs_that_came_later(trained, tmp_path, monkeypatch, capsys):
    # The model directory is enough: there is no prepared data.
    lines = [
        "one red house\tune maison rouge",
        "the cat sleeps\tle chat dort",
        "one " * 200 + "\tun",
    ]
    (tmp_path / "news.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "news.yaml").write_text(
        f"- {{reader: tsv, options: {{file: {tmp_path}/news.tsv}}}}\n"
    )
    words = ["evaluate", "--model_dir", trained, "--corpora", tmp_path / "news.yaml"]
    words += ["--tasks", "en-fr", "--compute_type", "int8", "--compare_with", "float32"]
    code, _, err = call(words, monkeypatch, capsys)
    assert code == 2
    assert f"{tmp_path}/news.tsv:3: the source has" in err
    assert "--on_long_line" in err
    code, out, err = call([*words, "--on_long_line", "skip"], monkeypatch, capsys)
    assert code == 0, err
    assert "en-fr: 3 pairs" in err
    table = out.splitlines()
    assert table[0].split()[:4] == ["task", "pairs", "BLEU", "chrF"]
    assert table[1].split()[:2] == ["en-fr", "3"]
    report = json.loads((trained / "evaluation-news.json").read_text())
    assert report["split"] == str(tmp_path / "news.yaml")
    found = [json.loads(line) for line in (trained / "evaluation-news/en-fr.jsonl").open()]
    assert [row["source"] for row in found] == [line.split("\t")[0].strip() for line in lines]
    assert found[2]["hypothesis"] == ""
    code, _, err = call([*words, "--unseen"], monkeypatch, capsys)
    assert code == 2
    assert "manifest" in err  # Only the run's prepared data say what was trained on.
    (tmp_path / "test.yaml").write_text((tmp_path / "news.yaml").read_text())
    words[4] = tmp_path / "test.yaml"
    code, _, err = call(words, monkeypatch, capsys)
    assert code == 2
    assert "the report would have the same name as that of --split test" in err
    code, _, err = call(["evaluate", "--model_dir", trained, "--unseen"], monkeypatch, capsys)
    assert code == 2
    assert "--unseen" in err
