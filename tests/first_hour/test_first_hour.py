"""The first hour of a new user: own data to a served model, with the installed command.

The tests run in the order of the file and continue from each other's results. What imports
TensorFlow runs once as the program itself (`keras_mtl`) and then in forks (`forked`), which save
the import. What has tests of its own elsewhere, such as baselines, a killed training and serving of
SavedModels, runs nightly here.
"""

import json
import re
import signal
import time

import pytest

from tests import tensorboard_server
from tests.first_hour import workplace as workplace_lib

pytestmark = pytest.mark.slow  # A promise of the README: own data, from the files to a server.

TASKS = ("en-fr", "en-de")
BASELINES = "runs/alone/baselines.json"
ADAPTIVE = f"trainer.schedule.name=inverse_ratio,trainer.schedule.baselines_file={BASELINES}"
TRAIN = ("train", "--config_file", "my.yaml", "--params_override", ADAPTIVE)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    made = workplace_lib.Workplace(tmp_path_factory.mktemp("first_hour"))
    workplace_lib.write_corpora(made.home)
    yield made
    made.close()


def test_the_wheel_is_what_runs(workplace):
    found = workplace_lib.installed_file(workplace)
    assert found.startswith(str(workplace.environment))
    assert workplace.keras_mtl("--version").startswith("keras_mtl ")


def test_inspect_names_the_tasks(workplace):
    shown = workplace.forked("inspect", "--config_file", "my.yaml")
    assert all(task in shown for task in TASKS)


@pytest.mark.nightly
def test_baselines_train_each_task_and_prepare_once(workplace):
    words = ("baselines", "--config_file", "my.yaml", "--model_dir", "runs/alone")
    workplace.keras_mtl(*words, "--train_steps", 60)
    found = json.loads((workplace.home / BASELINES).read_text())
    assert set(found) == set(TASKS)
    assert all(score > 0 for score in found.values())
    for task in TASKS:
        assert (workplace.home / "runs/alone" / task / "ckpt-60.index").is_file()
    assert len(list((workplace.home / "runs/alone").rglob("vocabulary.model"))) >= 1
    assert len(list((workplace.home / "runs/alone").rglob("manifest.json"))) == 1


def test_prepare_reads_all_four_formats(workplace):
    words = ("--config_file", "my.yaml", "--model_dir", "runs/my")
    shown = workplace.keras_mtl("prepare", *words, "--verify")
    assert "2 tasks" in shown
    manifest = json.loads((workplace.home / "runs/my/data/manifest.json").read_text())
    for task in manifest["tasks"]:
        # Duplicates of the generated sentences and what is split off are missing.
        assert task["train_size"] > 0.6 * workplace_lib.PAIRS
        assert task["dev_size"] > 5
        assert task["test_size"] > 5


def test_simulate_plays_the_schedule(workplace):
    words = ("--config_file", "my.yaml", "--model_dir", "runs/my")
    shown = workplace.keras_mtl("simulate", *words, "--output", "simulated.png")
    assert all(task in shown for task in TASKS)


def test_train_follows_the_baselines(workplace):
    baselines = workplace.home / BASELINES
    if not baselines.exists():  # The nightly test above has made it.
        baselines.parent.mkdir(parents=True)
        baselines.write_text(json.dumps(dict.fromkeys(TASKS, 30.0)))
    workplace.keras_mtl(*TRAIN, "--model_dir", "runs/my")
    check_run(workplace.home / "runs/my")


@pytest.mark.nightly
def test_a_killed_training_resumes(workplace):
    words = (*TRAIN, "--model_dir", "runs/killed")
    process = workplace.start(*words)
    run = workplace.home / "runs/killed"
    deadline = time.monotonic() + 300
    while not list(run.glob("ckpt-*.index")):
        assert process.poll() is None, "training ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    shown = workplace.keras_mtl(*words)
    assert re.search(r"from \S*ckpt-\d+ at step \d+", shown), shown
    assert "step 60" in shown
    check_run(run)


def check_run(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["event"] == "train"]
    assert steps == list(range(10, 61, 10))
    scores = [line["scores"]["chrf"] for line in lines if line["event"] == "evaluation"]
    assert len(scores) == 2
    assert all(set(score) == set(TASKS) for score in scores)


def test_evaluate_scores_every_task(workplace):
    shown = workplace.forked("evaluate", "--model_dir", "runs/my")
    assert all(task in shown for task in TASKS)
    report = json.loads((workplace.home / "runs/my/evaluation-test.json").read_text())
    assert TASKS[0] in json.dumps(report)


def test_report_makes_a_page_and_pictures(workplace):
    shown = workplace.keras_mtl("report", "runs/my", "--output", "report")
    page = workplace.home / "report" / "index.html"
    assert page.is_file(), list((workplace.home / "report").iterdir())
    assert all(task in page.read_text(encoding="utf-8") for task in TASKS)
    assert "chrF" in shown


EXPORTS = {
    "saved_model": ("exported/portable", ()),
    "saved_model_native": ("exported/native", ("--weight_type", "int8")),
    "engine": ("exported/model.kmtl", ("--weight_type", "int8")),
    "ctranslate2": ("exported/ct2", ()),
}


@pytest.mark.parametrize(
    "form",
    [pytest.param(form, marks=[] if form == "engine" else pytest.mark.nightly) for form in EXPORTS],
)
def test_export(workplace, form):
    path, words = EXPORTS[form]
    (workplace.home / "exported").mkdir(exist_ok=True)
    workplace.forked("export", "--model_dir", "runs/my", "--format", form, "--output", path, *words)
    assert (workplace.home / path).exists()


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("runs/my", marks=pytest.mark.nightly),
        pytest.param("exported/portable", marks=pytest.mark.nightly),
        "exported/model.kmtl",
    ],
)
def test_translate_and_score_in_fresh_processes(workplace, model):
    words = ("translate", "--model", model, "--task", "en-fr")
    translate = workplace.forked if model == "exported/portable" else workplace.keras_mtl
    found = translate(*words, text="two trees\n\nMarch 3\n").split("\n")
    assert len(found) == 4
    assert found[1] == ""
    if model == "exported/portable":
        return
    (workplace.home / "pairs.tsv").write_text("two trees\tdeux arbres\n", encoding="utf-8")
    words = ("score", "--model", model, "--task", "en-fr", "--tsv", "pairs.tsv")
    assert float(workplace.forked(*words).split("\t")[0]) < 0


SERVE = """
import sys
import tensorflow as tf
import tensorflow_text

def serve(path):
    translate = tf.saved_model.load(path).signatures["serving_default"]
    found = translate(text=tf.constant(["two trees", ""]), task=tf.constant(["en-fr", "en-de"]))
    print(found["translations"].shape)

serve("exported/portable")
assert "keras_mtl" not in sys.modules
from keras_mtl.engine import load_ops
load_ops()
serve("exported/native")
"""

SERVE_CTRANSLATE2 = """
import ctranslate2, json, sentencepiece
about = json.load(open("exported/ct2/keras_mtl.json"))
pieces = sentencepiece.SentencePieceProcessor(model_file="exported/ct2/sentencepiece.model")
source = [about["tasks"][0]["tag"], *pieces.encode("two trees", out_type=str)]
found = ctranslate2.Translator("exported/ct2").translate_batch([source])
print(pieces.decode(found[0].hypotheses[0]))
"""


@pytest.mark.nightly
def test_a_fresh_process_serves_the_saved_models(workplace):
    assert workplace.must(workplace.python, "-c", SERVE) == "(2, 1)\n(2, 1)\n"


@pytest.mark.nightly
def test_a_fresh_process_serves_with_ctranslate2(workplace):
    workplace.must(workplace.python, "-c", SERVE_CTRANSLATE2)


def test_benchmark_prints_a_table(workplace):
    words = ("--batch_sizes", 1, "--workers", 1, "--seconds", 0.1, "--compute_types", "int8")
    shown = workplace.keras_mtl("benchmark", "--model", "exported/model.kmtl", *words)
    row = shown.strip().splitlines()[-1].split()
    assert row[0] == "int8"
    assert float(row[3].replace(",", "")) > 0


@pytest.mark.nightly
def test_tensorboard_shows_the_run(workplace):
    output, logdir = workplace.home / "tensorboard.txt", workplace.home / "runs"
    serving = tensorboard_server.serve(workplace.python, logdir, output, workplace.variables())
    with serving as address:
        tags = tensorboard_server.scalar_tags(address)
    assert any("my" in run for run in tags)
