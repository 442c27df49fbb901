"""Every Python block of README and docs runs, in the order of its page.

A page is one program. `SETUP` says what a page finds when it begins; what is left out has a reason.
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest

import keras_mtl
from tests import processes

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if BLOCK.search(path.read_text(encoding="utf-8"))
)
# Pages whose blocks other tests run, one by one.
ELSEWHERE = {
    "docs/how-to/extending.md": "tests/test_docs_extending.py, tests/contracts, tests/balancing",
    "docs/reference/balancing.md": "tests/balancing/test_docs.py",
}


def blocks(page):
    """The Python blocks of a page, without the indentation of their list item."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [re.sub(rf"^{indent}", "", code, flags=re.M) for indent, code in BLOCK.findall(text)]


def run(page, names=None):
    """Runs the blocks of a page as one program; returns its names."""
    names = {} if names is None else names
    for number, block in enumerate(blocks(page)):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(copy_trained_model, tmp_path_factory):
    """A directory with ``runs/demo`` and its exports, of a very small model."""
    root = tmp_path_factory.mktemp("trained")
    copy_trained_model(root / "runs" / "demo")
    for output, settings in {
        "demo.kmtl": {"format": "engine", "weight_type": "int8"},
        "exported/demo": {},
        "exported/native": {"format": "saved_model_native", "weight_type": "int8"},
        "exported/ct2": {"format": "ctranslate2"},
    }.items():
        (root / output).parent.mkdir(exist_ok=True)
        keras_mtl.export_model(root / "runs" / "demo", root / output, **settings)
    return root


def small_demo():
    """Writes configs/demo.yaml with fewer pairs."""
    text = (ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8")
    text = text.replace("pairs: 14000", "pairs: 900").replace("size: 3000", "size: 900")
    text = text.replace("train_steps: 1000", "train_steps: 2").replace(
        "interval: 250", "interval: 1"
    )
    text = text.replace("max_pairs: 100\n", "max_pairs: 2\n")
    Path("configs").mkdir()
    Path("configs/demo.yaml").write_text(text, encoding="utf-8")


# Pages that run here without a check of their own: what they need first.
SETUP = {
    "docs/explanation/scale.md": None,
    "docs/how-to/architecture.md": None,
    "docs/how-to/rnmt.md": None,
    "docs/how-to/evaluation.md": None,
    "docs/how-to/other_tasks.md": None,
    "docs/how-to/quantization.md": None,
    "docs/how-to/propose_weights.md": None,
    "docs/how-to/simulate.md": None,
    "docs/reference/api/index.md": None,
    "docs/reference/data.md": "demo configuration",
    "docs/reference/schedules.md": None,
}
CHECKED = {
    "docs/how-to/engine.md",
    "docs/how-to/export.md",
    "docs/how-to/keras_fit.md",
    "docs/how-to/model_garden.md",
    "docs/how-to/tensorflow_ops.md",
    "docs/how-to/translate.md",
    "docs/reference/beam_search.md",
    "docs/tutorial/first_model.md",
}


def test_each_page_is_run_by_one_test():
    assert sorted([*SETUP, *CHECKED, *ELSEWHERE]) == PAGES


def test_examples_use_the_public_api():
    """They import keras_mtl or its public namespaces; only extensions need base classes."""
    for page in PAGES:
        if page in ELSEWHERE:
            continue
        for block in blocks(page):
            for module in re.findall(r"^(?:from|import) (keras_mtl[\w.]*)", block, re.M):
                head, _, rest = module.partition(".")
                assert head == "keras_mtl"
                assert not rest or rest in keras_mtl._NAMESPACES, f"{page}: {module}"


@pytest.mark.parametrize("page", SETUP)
def test_page(page):
    if SETUP[page]:
        small_demo()
    assert run(page)


def test_tutorial():
    """The tutorial's program, with fewer steps and pairs."""
    page = "docs/tutorial/first_model.md"
    text = (ROOT / page).read_text(encoding="utf-8")
    (configuration,) = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for old, new in {
        "train_steps: 600": "train_steps: 4",
        "interval: 200": "interval: 2",
        "steps_per_loop: 50": "steps_per_loop: 2",
        "pairs: 8000": "pairs: 900",
        "max_pairs: 6000": "max_pairs: 600",
        "size: 2000": "size: 700",
        "max_pairs: 50,": "max_pairs: 2,",
    }.items():
        assert old in configuration, old
        configuration = configuration.replace(old, new)
    Path("first.yaml").write_text(configuration, encoding="utf-8")
    # Training sets the determinism and the precision of its process.
    processes.run(run_tutorial, page, Path.cwd())
    assert Path("first.png").stat().st_size > 10_000
    assert Path("runs/first/evaluation-test.json").exists()


def run_tutorial(page, directory):
    os.chdir(directory)
    names = run(page)
    assert names["result"].step == 4
    assert set(names["result"].scores) == {"en-fr", "en-ca"}
    assert all(0 <= score.chrf <= 100 for score in names["evaluation"].results.values())


def test_translate(trained, monkeypatch):
    monkeypatch.chdir(trained)
    names = run("docs/how-to/translate.md")
    assert names["translator"].translate([""], "en-fr") == [""]


def test_engine(trained, monkeypatch):
    monkeypatch.chdir(trained)
    names = run("docs/how-to/engine.md")
    assert len(names["found"]) == 1
    assert names["found"][0][0].score <= 0


def test_export(trained, monkeypatch):
    monkeypatch.chdir(trained)
    names = run("docs/how-to/export.md")
    assert names["result"]["translations"].shape == (2, 2)
    assert names["other"]["translations"].shape == (1, 3)
    assert names["result"]["translations"][1, 0].numpy() == b""


def test_beam_search():
    """The three searches of the page find the same hypotheses."""
    names = run("docs/reference/beam_search.md")
    for number, hypotheses in enumerate(names["found"]):
        for rank, hypothesis in enumerate(hypotheses):
            length = int(names["result"].lengths[number, rank])
            ids = names["result"].ids[number, rank, :length].numpy().tolist()
            assert list(hypothesis.ids) == ids
            assert hypothesis.score == pytest.approx(float(names["result"].scores[number, rank]))
    np.testing.assert_allclose(names["graph"].scores, names["result"].scores, rtol=1e-5)


def test_keras_fit(tmp_path):
    names = run("docs/how-to/keras_fit.md")
    history = names["history"]
    weights = {
        name: 1 / (np.minimum(1, np.array(history[f"score/{name}"]) / baseline) + 0.05)
        for name, baseline in names["baselines"].items()
    }
    expected = weights["letters"] / (weights["digits"] + weights["letters"])
    np.testing.assert_allclose(history["probability/letters"], expected)
    assert history["score/letters"][-1] > 0.5
    assert names["two_heads"].predict(np.ones((1, 2)), verbose=0)["letters"].shape == (1, 26)
    # A checkpoint of batch 90, and an epoch of 50 steps from there.
    assert names["scheduling"].step == 140
    assert (tmp_path / "run.png").stat().st_size > 10_000


def test_tensorflow_ops():
    import tensorflow as tf

    names = run("docs/how-to/tensorflow_ops.md")
    exact = names["x"] @ (names["weights"] * names["scales"])
    np.testing.assert_allclose(names["product"], exact, atol=0.02)
    served = names["serve"](x=tf.constant(names["x"]))["product"]
    np.testing.assert_array_equal(served, names["product"])
    x = np.random.default_rng(1).normal(size=(5, 40)).astype(np.float32)
    ours, theirs = (names[name].predict(x, verbose=0) for name in ("fast", "model"))
    np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_model_garden(tmp_path):
    import tf_keras
    from official.core import config_definitions as cfg
    from official.modeling.multitask import multitask

    from tests.test_garden import ToyModel, ToyTask

    tasks = {name: ToyTask(cfg.TaskConfig(), name=name) for name in ("digits", "letters")}
    weights = {"digits": 30, "letters": 10}
    names = run(
        "docs/how-to/model_garden.md",
        {
            "multi_task": multitask.MultiTask(tasks, task_weights=weights),
            "eval_tasks": list(tasks.values()),
            "model": ToyModel(tuple(tasks)),
            "optimizer": tf_keras.optimizers.SGD(0.1),
        },
    )
    assert names["config"].task.pairs[0].target == "fr"
    assert int(names["trainer"].global_step.numpy()) == 2000
    assert names["sampler"].book.counts.tolist() == [4, 4]
    assert (tmp_path / "run" / "checkpoint").exists()
