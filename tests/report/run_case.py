"""Directories of runs as training and evaluation leave them, without weights; checks of a page."""

import html.parser
import json
import re

import numpy as np
import yaml

from keras_mtl import metrics
from keras_mtl.evaluation.translations import pairs_digest

WORDS = [f"w{chr(97 + i)}{chr(97 + j)}" for i in range(8) for j in range(8)]
TASKS = {"en-fr": 9000, "en-gl": 90}
STEPS = (100, 200, 300)


def references(task, count=60):
    rng = np.random.default_rng(sum(map(ord, task)))
    return [" ".join(rng.choice(WORDS, rng.integers(5, 12))) for _ in range(count)]


def corrupt(lines, kept, seed):
    """Every word stays with probability `kept`."""
    rng = np.random.default_rng(seed)
    return [
        " ".join(w if rng.random() < kept else rng.choice(WORDS) for w in line.split())
        for line in lines
    ]


def make_run(
    directory,
    schedule,
    seed,
    kept=0.6,
    tasks=TASKS,
    tested=True,
    scales=None,
    steps=STEPS,
    **params,
):
    """Writes what a run leaves behind, without its weights."""
    directory.mkdir(parents=True)
    config = {
        "task": {"pairs": [{"source": t[:2], "target": t[3:]} for t in tasks]},
        "trainer": {"train_steps": steps[-1], "schedule": {"name": schedule, "parameters": {}}},
        "runtime": {"seed": seed},
        **params,
    }
    (directory / "params.yaml").write_text(yaml.safe_dump(config))
    (directory / "data").mkdir()
    sizes = [{"name": name, "train_size": size} for name, size in tasks.items()]
    manifest = {"kind": "keras_mtl prepared data", "tasks": sizes}
    (directory / "data/manifest.json").write_text(json.dumps(manifest))
    write_log(directory, steps, seed, tasks, scales)
    if tested:
        evaluate(directory, tasks, kept, seed)
    return directory


def write_log(directory, steps, seed, tasks=TASKS, scales=None):
    share = 1 / len(tasks)
    with open(directory / "metrics.jsonl", "a") as log:
        for step in steps:
            train = {
                "event": "train",
                "step": step,
                "loss": dict.fromkeys(tasks, 3.0),
                "probabilities": dict.fromkeys(tasks, share),
                "batches": {task: step // len(tasks) for task in tasks},
                "tokens": {task: 1000 * (i + 1) for i, task in enumerate(tasks)},
                "tokens_per_second": 100.0,
            }
            if scales:
                train["scales"] = dict(zip(tasks, scales, strict=True))
            scores = dict.fromkeys(tasks, 30.0 + step / 10 + seed)
            evaluation = {
                "event": "evaluation",
                "step": step,
                "metric": "chrf",
                "scores": {"chrf": scores},
                "ratios": {task: score / 60 for task, score in scores.items()},
                "probabilities": dict.fromkeys(tasks, share),
                "seconds": 5.0,
            }
            log.write(json.dumps(train) + "\n" + json.dumps(evaluation) + "\n")


def evaluate(directory, tasks, kept, seed, count=60, record=None):
    """Writes an evaluation; `record` is what newer versions write about it, None an older one.

    `kept` is the share of right words, the same for all tasks or {task: share}.
    """
    results, signatures = {}, {}
    (directory / "evaluation-test").mkdir(exist_ok=True)
    for task in tasks:
        right = references(task, count)
        made = corrupt(right, kept[task] if isinstance(kept, dict) else kept, seed)
        rows = [
            {"source": f"source {i}", "hypothesis": h, "reference": r}
            for i, (h, r) in enumerate(zip(made, right, strict=True))
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (directory / f"evaluation-test/{task}.jsonl").write_text(text)
        found = {metric: metrics.score(metric, made, right) for metric in ("bleu", "chrf")}
        signatures = {metric: result.signature for metric, result in found.items()}
        scores = {metric: result.value for metric, result in found.items()}
        results[task] = {"pairs": count, "scores": scores}
        if record is not None:
            digest = pairs_digest((row["source"], row["reference"]) for row in rows)
            results[task] |= {"available": 60, "test_set_hash": digest}
    report = {"tasks": results, "signatures": signatures, **(record or {})}
    (directory / "evaluation-test.json").write_text(json.dumps(report))


class Page(html.parser.HTMLParser):
    """Checks that elements are closed, ids are unique, and collects what a browser would fetch."""

    VOID = frozenset(("meta", "br", "link", "img", "input", "hr", "wbr"))

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.fetched, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        assert tag not in ("script", "link", "iframe")
        for name in ("src", "href", "xlink:href"):
            value = attrs.get(name) or "#"
            if not value.startswith(("#", "data:")):
                self.fetched.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def check_page(path):
    text = path.read_text(encoding="utf-8")
    parsed = Page(text)
    assert not parsed.fetched
    assert len(set(parsed.ids)) == len(parsed.ids)
    references = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    assert references <= set(parsed.ids)
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)
    # Every color of a chart is one that the page can change.
    assert not re.search(r'style="[^"]*(?:stroke|fill): #', text)
    return " ".join(parsed.text)
