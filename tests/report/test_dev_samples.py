"""The report on what a run translated while it trained, and a page that is written again."""

import json
import re
import threading
import time

from keras_mtl.cli.main import main
from keras_mtl.report import read_run, write_report
from keras_mtl.report.dev_samples import sentences_of
from tests.report.run_case import check_page, make_run, write_log

ATTENTION = {
    "source_tokens": ["\u2581one", "\u2581two", "</s>"],
    "tokens": ["\u2581un", "</s>"],
    "alignment": [[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]],
}


def event(step, translation, **more):
    sample = {"source": "one <two>", "reference": "un", "translation": translation, **more}
    return {"event": "samples", "step": step, "samples": {"en-fr": [sample]}}


def write_samples(directory, *events):
    text = "".join(json.dumps(each) + "\n" for each in events)
    (directory / "samples.jsonl").write_text(text)


def test_the_page_shows_how_translations_changed_and_the_newest_attention(tmp_path):
    make_run(tmp_path / "run", "uniform", 1, tested=False)
    events = [event(step, f"words {step}") for step in range(1000, 21000, 1000)]
    write_samples(tmp_path / "run", *events, event(21000, "", **ATTENTION))
    page, _ = write_report([read_run(tmp_path / "run")], tmp_path / "out")
    text = check_page(page)
    assert "Translations while training" in text
    assert "one <two>" in text
    shown = re.findall(r"step ([\d,]+)", text[text.index("Translations while training") :])
    assert shown[0] == "1,000"
    assert shown[7] == "21,000"
    assert "(empty)" in text
    assert "Attention at step 21,000" in page.read_text(encoding="utf-8")


def test_damaged_samples_are_skipped(tmp_path):
    make_run(tmp_path / "run", "uniform", 1, tested=False)
    damaged = [
        event(100, "un", **{**ATTENTION, "alignment": [[0.5, "x", 0.1], [0, 0, 1]]}),
        event(200, "un", **{**ATTENTION, "alignment": 3}),
        event(300, 7),
        {"event": "samples", "step": 400, "samples": {"en-fr": ["text"]}},
        {"event": "samples", "step": 500, "samples": []},
    ]
    write_samples(tmp_path / "run", *damaged)
    with open(tmp_path / "run/samples.jsonl", "a") as file:
        file.write("not an event\n")
    run = read_run(tmp_path / "run")
    assert "samples.jsonl: 1 line is damaged and skipped (line 6)" in run.notes
    (sentence,) = sentences_of(run.samples)["en-fr"]
    assert list(sentence.translations) == [100, 200]
    page, _ = write_report([run], tmp_path / "out")
    assert "Attention" not in check_page(page)


def test_a_report_is_written_again_until_the_run_ends(tmp_path, capsys):
    trainer = {"train_steps": 300, "schedule": {"name": "uniform", "parameters": {}}}
    make_run(tmp_path / "run", "uniform", 1, tested=False, steps=(100,), trainer=trainer)
    page = tmp_path / "out" / "index.html"

    def train():
        while not page.exists():
            time.sleep(0.05)
        first.append(page.read_text(encoding="utf-8"))
        write_log(tmp_path / "run", (200, 300), 1)

    first = []
    training = threading.Thread(target=train)
    training.start()
    words = ["report", str(tmp_path / "run"), "--output", str(tmp_path / "out")]
    assert main([*words, "--refresh", "1"]) == 0
    training.join()
    refreshes = '<meta http-equiv="refresh" content="1">'
    assert refreshes in first[0]
    assert refreshes not in page.read_text(encoding="utf-8")
    captured = capsys.readouterr()
    assert "It is written again while the runs train" in captured.err
    assert "not finished" not in captured.err
