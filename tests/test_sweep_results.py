"""Files with the results of finished runs of a sweep, which replace training."""

import json
import lzma
import pathlib

import pytest

from keras_mtl.data.prepare import prepare
from keras_mtl.errors import DataError
from keras_mtl.evaluation.translations import Translation, pairs_digest
from keras_mtl.report.runs import read_run

ROOT = pathlib.Path(__file__).parents[1]
SWEEP = f"""
config_files: {ROOT}/configs/demo.yaml
overrides:
  task.pairs:
  - {{source: en, target: fr, max_pairs: 200}}
  - {{source: en, target: gl, max_pairs: 50}}
  task.data.corpora: [{{reader: cldr, options: {{pairs: 800, seed: 1}}}}]
  task.data.vocabulary: {{size: 450}}
baselines: {{}}
settings:
  five: {{trainer.schedule: {{name: temperature, parameters: {{temperature: 5}}}}}}
  ratio: {{trainer.schedule.name: inverse_ratio}}
seeds: [1, 2]
"""
BASELINES = {"en-fr": 20.5, "en-gl": 4.25}


@pytest.fixture(scope="module")
def modules(import_from_benchmarks):
    return import_from_benchmarks(
        "sweep.definition", "sweep.planning", "sweep.results", "compare_schedules"
    )


@pytest.fixture(scope="module")
def data(modules, tmp_path_factory):
    """Prepared data; its directory is that of a sweep."""
    directory = tmp_path_factory.mktemp("sweep")
    (directory / "sweep.yaml").write_text(SWEEP)
    base = planned(modules, directory).base
    return prepare(base.task.pairs, directory / "data", base.task.data, log=lambda line: None)


def planned(modules, directory, text=SWEEP):
    (directory / "sweep.yaml").write_text(text)
    definition = modules["definition"].read_definition(directory / "sweep.yaml")
    plan = modules["planning"].SweepPlan(definition, directory, [])
    baselines = plan.baselines_directory("tiny")
    baselines.mkdir(parents=True, exist_ok=True)
    (baselines / "baselines.json").write_text(json.dumps(BASELINES))
    (baselines / "losses.json").write_text(json.dumps(BASELINES))
    return plan


def pretend_to_run(run, data):
    """Writes what `train` and `evaluate` leave behind, as far as a report reads it."""
    (run / "evaluation-test").mkdir(parents=True)
    tasks = {}
    for task in ("en-fr", "en-gl"):
        pairs = list(data.reader(task, "test").texts())
        rows = [
            Translation(source, reference[::-1], reference)._asdict() for source, reference in pairs
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (run / f"evaluation-test/{task}.jsonl").write_text(text, encoding="utf-8")
        hash_ = pairs_digest(pairs)
        tasks[task] = {"scores": {"chrf": 31.0}, "pairs": len(pairs), "test_set_hash": hash_}
    report = {"tasks": tasks, "signatures": {"chrf": "nrefs:1"}, "step": 100}
    (run / "evaluation-test.json").write_text(json.dumps(report))
    event = {"event": "train", "step": 100, "loss": {"en-fr": 2.5, "en-gl": 3.0}}
    (run / "metrics.jsonl").write_text(json.dumps(event) + "\n")


@pytest.fixture
def recorded(modules, data, tmp_path):
    """A run of another machine, recorded."""
    plan = planned(modules, pathlib.Path(data.data_dir).parent)
    run = next(iter(modules["compare_schedules"].compared_runs(plan, plan.definition.run_keys())))
    pretend_to_run(tmp_path / "elsewhere", data)
    results = modules["results"].Results(tmp_path / "results", pathlib.Path(data.data_dir))
    assert results.record(run.name, tmp_path / "elsewhere", run.config)
    return results, run, tmp_path / "results" / f"{run.name}.tar.xz"


def test_a_restored_run_has_what_the_report_reads(recorded, tmp_path):
    results, run, _ = recorded
    assert results.restore(run.name, tmp_path / "here", run.config)
    found, other = read_run(tmp_path / "here"), read_run(tmp_path / "elsewhere")
    assert found.test == other.test == {"chrf": {"en-fr": 31.0, "en-gl": 31.0}}
    assert found.translations == other.translations
    assert found.losses == other.losses
    assert (found.schedule, found.seed) == ("temperature", 1)
    assert not results.record(run.name, tmp_path / "elsewhere", run.config)


def test_a_file_has_no_text_of_the_corpus_and_no_path(recorded, data, tmp_path):
    content = lzma.decompress(recorded[2].read_bytes()).decode()
    for source, reference in data.reader("en-fr", "test").texts():
        if len(source) > 12:
            assert source not in content
            assert reference not in content
    assert str(ROOT) not in content
    assert str(tmp_path.parent) not in content


def test_the_script_trains_only_runs_without_a_file(recorded, modules, tmp_path):
    results = recorded[0]
    (tmp_path / "here").mkdir()
    plan = planned(modules, tmp_path / "here")
    # A sweep that ended before this run has written its configuration.
    first = plan.definition.run_keys()[0].directory
    (plan.directory / first).mkdir(parents=True)
    script = modules["compare_schedules"]
    runs = list(script.compared_runs(plan, plan.definition.run_keys()))
    jobs = script.jobs_of(plan, runs, results)
    assert [job.name for job in jobs] == [
        "tiny-full/ratio-1",
        "tiny-full/five-2",
        "tiny-full/ratio-2",
    ]
    # What is in the file is the run's own configuration, so that the next call does not repeat it.
    assert len(script.jobs_of(plan, runs, results)) == 3


@pytest.mark.parametrize("change", ["configuration", "baselines", "data", "test set"])
def test_results_of_something_else_are_not_taken(change, recorded, modules, data, tmp_path):
    results, run, _ = recorded
    directory = pathlib.Path(data.data_dir)
    config = run.config
    if change == "configuration":
        config.trainer.optimizer.learning_rate = 0.5
    elif change == "baselines":
        path = tmp_path / "baselines.json"
        path.write_text(json.dumps(BASELINES | {"en-gl": 4.5}))
        config.trainer.schedule.baselines_file = str(path)
    else:
        results = modules["results"].Results(tmp_path / "results", directory)
        if change == "data":
            results._data.manifest = {**data.manifest, "vocabulary_hash": "0"}
        else:
            results._pairs["en-gl"] = list(data.reader("en-gl", "test").texts())[1:]
    assert not results.restore(run.name, tmp_path / "here", config)
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("damage", ["cut", "other bytes", "other text", "empty"])
def test_a_damaged_file_is_named_and_leaves_nothing(damage, recorded, tmp_path):
    results, run, path = recorded
    content = path.read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "other bytes": b"\xfd7zXZ\x00" + bytes(100),
        "other text": lzma.compress(lzma.decompress(content).replace(b'"tasks"', b'"taxes"')),
        "empty": b"",
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=f"{path.name}.*Delete it"):
        results.restore(run.name, tmp_path / "here", run.config)
    assert not (tmp_path / "here").exists()
