"""`evaluate` on a trained model: what its report records, and that no report is lost."""

import errno
import json

import pytest

import keras_mtl
from keras_mtl import __version__
from keras_mtl.cli.main import main
from keras_mtl.evaluation import reports as evaluation_report

PAIRS = {
    "en-fr": [("one red house", "une maison rouge"), ("the cat sleeps", "le chat dort")],
    "en-uk": [("one red house", "червоний будинок"), ("good morning", "добрий ранок")],
}


@pytest.fixture(scope="module")
def trained(copy_trained_model, tmp_path_factory):
    return copy_trained_model(tmp_path_factory.mktemp("reports") / "model")


@pytest.fixture
def corpora(tmp_path):
    """A list of two files, each of which names its task."""
    return write_corpora(tmp_path, PAIRS)


def write_corpora(directory, pairs):
    lines = []
    for task, rows in pairs.items():
        path = directory / f"{task}.tsv"
        path.write_text("".join(f"{source}\t{target}\n" for source, target in rows))
        lines.append(f"- {{reader: tsv, options: {{file: {path}}}, tasks: [{task}]}}\n")
    (directory / "news.yaml").write_text("".join(lines))
    return directory / "news.yaml"


@pytest.fixture
def evaluate(trained, capsys):
    for old in trained.glob("evaluation-*.json"):
        old.unlink()

    def call(*words):
        code = main(["evaluate", "--model_dir", str(trained), *map(str, words)])
        return code, *capsys.readouterr()

    return call


def test_a_report_says_of_what_it_is(trained, corpora, evaluate):
    code, out, err = evaluate("--corpora", corpora)
    assert code == 0, err
    assert out.splitlines()[-1] == f"report: {trained}/evaluation-news.json"
    report = json.loads((trained / "evaluation-news.json").read_text())
    assert list(report["tasks"]) == list(PAIRS)
    entry = report["tasks"]["en-uk"]
    assert (entry["pairs"], entry["available"]) == (2, 2)
    hashes = {entry["test_set_hash"] for entry in report["tasks"].values()}
    assert len(hashes) == 2
    assert report["partial"] == []
    checkpoint = next(trained.glob("ckpt-*.index")).stem
    assert report["checkpoint"] == checkpoint
    assert report["step"] == report["trained_steps"] == int(checkpoint.removeprefix("ckpt-"))
    assert report["checkpoint_choice"] == "newest"
    assert len(report["weights_hash"]) == 16
    assert report["keras_mtl"] == __version__
    assert report["date"].startswith("20")
    assert report["hardware"]["processors"] >= 1
    code, _, _ = evaluate("--corpora", corpora, "--checkpoint", trained / checkpoint)
    again = json.loads((trained / "evaluation-news.json").read_text())
    assert again["checkpoint_choice"] == "given"
    assert again["weights_hash"] == report["weights_hash"]
    assert again["tasks"]["en-uk"]["test_set_hash"] == entry["test_set_hash"]


def test_a_partial_evaluation_leaves_the_whole_one(trained, corpora, evaluate):
    assert evaluate("--corpora", corpora)[0] == 0
    whole = (trained / "evaluation-news.json").read_bytes()
    kept = (trained / "evaluation-news/en-fr.jsonl").read_bytes()
    for words, name, partial in (
        (["--max_pairs", 1], "news-1_pairs", ["1 of 2 pairs of en-fr", "1 of 2 pairs of en-uk"]),
        (["--tasks", "en-fr"], "news-en-fr", []),
        (["--metrics", "chrf"], "news-chrf", ["without bleu"]),
    ):
        code, out, err = evaluate("--corpora", corpora, *words)
        assert code == 0, err
        path = trained / f"evaluation-{name}.json"
        assert f"report: {path}" in out
        assert "evaluation-news.json is kept, because it has" in err
        assert json.loads(path.read_text())["partial"] == partial
    assert (trained / "evaluation-news.json").read_bytes() == whole
    assert (trained / "evaluation-news/en-fr.jsonl").read_bytes() == kept
    # The whole one may be made again, and replaces a partial one.
    assert evaluate("--corpora", corpora, "--output", trained / "evaluation-x.json")[0] == 0
    code, _, err = evaluate("--corpora", corpora, "--max_pairs", 1, "--output", trained / "a.json")
    assert code == 0, err
    assert evaluate("--corpora", corpora, "--output", trained / "a.json")[0] == 0
    code, _, err = evaluate("--corpora", corpora, "--max_pairs", 1, "--output", trained / "a.json")
    assert code == 2
    assert "a.json is another report: it has 2 pairs of en-fr instead of 1" in err


def test_the_report_of_other_sentences_is_not_replaced(trained, corpora, evaluate, tmp_path):
    assert evaluate("--corpora", corpora)[0] == 0
    whole = (trained / "evaluation-news.json").read_bytes()
    (tmp_path / "other").mkdir()
    changed = {**PAIRS, "en-uk": [("good morning", "ранок"), ("two trees", "дві")]}
    other = write_corpora(tmp_path / "other", changed)
    code, _, err = evaluate("--corpora", other)
    assert code == 2
    assert "evaluation-news.json is another report: its sentences of en-uk are different" in err
    assert (trained / "evaluation-news.json").read_bytes() == whole


def test_python_gives_what_the_command_prints(trained, corpora, evaluate):
    assert evaluate("--corpora", corpora, "--max_pairs", 1)[0] == 0
    written = json.loads((trained / "evaluation-news.json").read_text())
    settings = keras_mtl.EvaluationSettings(corpora=str(corpora), max_pairs=1, copy_source=True)
    lines: list[str] = []
    found = keras_mtl.evaluate(trained, settings, log=lines.append)
    assert found.report()["tasks"]["en-fr"]["scores"] == written["tasks"]["en-fr"]["scores"]
    assert set(found.copied) == set(PAIRS)
    assert "a partial evaluation: 1 of 2 pairs of en-fr, 1 of 2 pairs of en-uk" in lines
    before = (trained / "evaluation-news.json").read_bytes()
    assert found.path == trained / "evaluation-news.json"
    assert before == (trained / "evaluation-news.json").read_bytes()
    assert found.write() == found.path
    assert "copied_source" in json.loads(found.path.read_text())


def test_a_file_without_languages_needs_its_task(corpora, evaluate, tmp_path):
    (tmp_path / "any.yaml").write_text(
        f"- {{reader: tsv, options: {{file: {tmp_path}/en-fr.tsv}}}}"
    )
    code, _, err = evaluate("--corpora", tmp_path / "any.yaml")
    assert code == 2
    assert "en-fr.tsv) holds one pair of languages, and would be scored for" in err
    assert "choose the task with --tasks" in err
    code, _, err = evaluate("--corpora", tmp_path / "any.yaml", "--tasks", "en-fr")
    assert code == 0, err
    assert f"en-fr: 2 pairs of {tmp_path}/en-fr.tsv" in err


def test_where_nothing_can_be_written_nothing_is_translated(
    corpora, evaluate, tmp_path, monkeypatch
):
    monkeypatch.setattr("keras_mtl.evaluation.trained_model.open_evaluator", pytest.fail)
    (tmp_path / "file").write_text("")
    code, out, err = evaluate("--corpora", corpora, "--output", tmp_path / "file/report.json")
    assert (code, out) == (2, "")
    assert "file/report.json: the report cannot be written (Not a directory)" in err
    code, _, err = evaluate("--corpora", corpora, "--output", tmp_path)
    assert code == 2
    assert "Is a directory" in err
    assert not list(tmp_path.glob("*.probe"))


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_disk_that_fills_up_does_not_take_the_scores(corpora, evaluate, monkeypatch, words):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(evaluation_report, "write_translations", full)
    code, out, err = evaluate("--corpora", corpora, *words)
    assert code == 2
    assert '"macro_average"' in out if words else "mean" in out
    assert "evaluation-news.json: the report cannot be written (No space left on device)" in err


def test_an_output_that_cannot_be_written_does_not_take_the_report(
    trained, corpora, evaluate, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "standard output")

    monkeypatch.setattr("keras_mtl.cli.evaluate.print_results", full)
    code, _, err = evaluate("--corpora", corpora)
    assert code == 2
    assert "standard output: the disk is full" in err
    report = json.loads((trained / "evaluation-news.json").read_text())
    assert list(report["tasks"]) == list(PAIRS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "en-frr"], "unknown task 'en-frr'; did you mean 'en-fr'"),
        (["--corpora", "OTHER"], "other.yaml[0].tasks: unknown task 'en-zz'"),
    ],
)
def test_arguments_are_checked_before_the_model_is_read(
    evaluate, tmp_path, monkeypatch, words, message
):
    (tmp_path / "other.yaml").write_text("- {reader: cldr, tasks: [en-zz]}")
    words = [str(tmp_path / "other.yaml") if word == "OTHER" else word for word in words]
    monkeypatch.setattr("keras_mtl.evaluation.trained_model.open_evaluator", pytest.fail)
    code, _, err = evaluate(*words)
    assert code == 2
    assert message in err
