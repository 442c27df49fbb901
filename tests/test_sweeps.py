"""Sweeps of `benchmarks/compare_schedules.py`: what a file declares is what runs."""

import json
import pathlib
import sys

import pytest

from keras_mtl import schedules
from keras_mtl.errors import ConfigError
from keras_mtl.report.sweep.files import run_directories
from keras_mtl.schedules.registry import SCHEDULES
from keras_mtl.training.run import jobs
from keras_mtl.training.run import planning as training_planning

ROOT = pathlib.Path(__file__).parents[1]
EVIDENCE = ROOT / "benchmarks/evidence"
PARTS = ("settings", "attempts", "recipe")  # Not sweeps, but parts of several.
SWEEPS = sorted(path.stem for path in EVIDENCE.glob("*.yaml") if path.stem not in PARTS)


@pytest.fixture(scope="module")
def sweep(import_from_benchmarks):
    return import_from_benchmarks(
        "sweep.definition", "sweep.planning", "compare_schedules", "compare_proposer"
    )


@pytest.fixture
def written(sweep, tmp_path):
    """Writes a sweep on the demo and returns its plan."""

    def write(text, **more):
        path = tmp_path / "sweep.yaml"
        path.write_text(f"config_files: {ROOT / 'configs/demo.yaml'}\n{text}")
        definition = sweep["definition"].read_definition(path)
        return sweep["planning"].SweepPlan(definition, tmp_path / "runs", [], **more)

    return write


SETTINGS = """
settings:
  five: {trainer.schedule: {name: temperature, parameters: {temperature: 5}}}
  ratio: {trainer.schedule: {name: inverse_ratio, parameters: {alpha: 2}}}
"""


EXCESS_LOSS = (
    "{trainer.schedule: {name: excess_loss, parameters: {reference_losses: '@baseline_losses'}}}"
)
BANDIT = "{trainer.schedule: {name: bandit, parameters: {rewards: loss}}}"


@pytest.mark.parametrize("name", SWEEPS)
def test_every_run_of_a_sweep_in_the_repository_is_valid(name, sweep, tmp_path, monkeypatch):
    # The corpora need not be on this machine.
    monkeypatch.setattr(training_planning, "check_readers", lambda draft: None)
    # Other tests must not see the schedules of attempts.py, and the next sweep must load it again.
    monkeypatch.setattr(SCHEDULES, "classes", dict(SCHEDULES.classes))
    for module in [name for name in sys.modules if name.endswith("attempts")]:
        monkeypatch.delitem(sys.modules, module)
    definition = sweep["definition"].read_definition(EVIDENCE / f"{name}.yaml")
    plan = sweep["planning"].SweepPlan(definition, tmp_path, [])
    plan.check()
    keys = plan.definition.run_keys()
    assert len({key.directory for key in keys}) == len(keys)


def test_seeds_are_the_slowest_axis_and_runs_restrict_the_others(written):
    plan = written(
        SETTINGS
        + "seeds: [7, 8]\nsizes: {tiny: {}, wide: {task.model.hidden_dim: 256}}\n"
        + "runs:\n- {sizes: [tiny]}\n- {sizes: [wide], settings: [five], seeds: [7]}\n"
    )
    names = [key.directory for key in plan.definition.run_keys()]
    assert names == [
        *(f"runs/{name}-7" for name in ("tiny-full/five", "tiny-full/ratio", "wide-full/five")),
        *(f"runs/{name}-8" for name in ("tiny-full/five", "tiny-full/ratio")),
    ]


def test_a_setting_replaces_the_schedule_of_the_configuration(written):
    """Also the parameters of a schedule with the same name: the demo has an epsilon."""
    plan = written(
        SETTINGS + "seeds: [3]\nsharings: [encoder]\noverrides: {trainer.train_steps: 70}\n"
    )
    five, ratio = (plan.run_config(key) for key in plan.definition.run_keys())
    assert (five.trainer.schedule.name, five.trainer.schedule.parameters) == (
        "temperature",
        {"temperature": 5},
    )
    assert ratio.trainer.schedule.parameters == {"alpha": 2}
    assert (ratio.runtime.seed, ratio.trainer.train_steps) == (3, 70)
    assert ratio.task.model.sharing == "encoder"
    assert ratio.task.data.data_dir == str(plan.directory / "data")
    tasks = [schedules.TaskInfo(pair.name, 10, pair.baseline) for pair in ratio.task.pairs]
    schedules.create("inverse_ratio", tasks, **ratio.trainer.schedule.parameters)


def test_tasks_that_the_sweep_replaces_have_names(written):
    plan = written(SETTINGS + "overrides: {task.pairs: [{source: en, target: fr, baseline: 9}]}\n")
    plan.check()
    (pair,) = plan.run_config(plan.definition.run_keys()[0]).task.pairs
    assert pair.name == "en-fr"


def test_baselines_reach_schedules_by_their_file_and_their_losses(written, sweep):
    text = (
        "baselines: {trainer.train_steps: 60}\nsettings:\n"
        "  ratio: {trainer.schedule.name: inverse_ratio}\n"
        f"  excess: {EXCESS_LOSS}\n"
    )
    plan = written(text)
    plan.check()
    pairs = plan.base.task.pairs
    single = plan.baseline_config("tiny", pairs[2])
    assert (single.trainer.train_steps, single.trainer.schedule.name) == (60, "uniform")
    assert [pair.name for pair in single.task.pairs] == [pairs[2].name]
    for place, pair in enumerate(pairs):
        own = plan.baselines_directory("tiny") / pair.name
        own.mkdir(parents=True)
        events = [
            {"event": "train", "step": 50, "loss": {pair.name: 4.0}},
            {"event": "train", "step": 60, "loss": {pair.name: 2.0 + place}},
            *(
                {"event": "evaluation", "step": step, "scores": {"chrf": {pair.name: score}}}
                for step, score in ((50, 40.0 + place), (60, 30.0))
            ),
        ]
        (own / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    plan.record_baselines("tiny")
    ratio, excess = (plan.run_config(key) for key in plan.definition.run_keys())
    found = json.loads(pathlib.Path(ratio.trainer.schedule.baselines_file).read_text())
    assert list(found.values()) == [40.0 + place for place in range(len(pairs))]
    assert not any(pair.baseline for pair in ratio.task.pairs)
    losses = excess.trainer.schedule.parameters["reference_losses"]
    assert losses == {pair.name: 2.0 + place for place, pair in enumerate(pairs)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SETTINGS + "seed: [1]", "unknown field 'seed'.*seeds"),
        ("seeds: [1]", "settings is missing"),
        (SETTINGS + "seeds: [one]", "seeds is .*list of int"),
        (SETTINGS + "runs: [{settings: [fife]}]", "settings do not include 'fife'.*five"),
        ("settings: {a/b: {}}", "cannot be a directory's name"),
        ("settings: {a: {trainer.schedul.name: uniform}}", "schedul"),
        (f"settings: {{a: {BANDIT}}}", "reward"),
        (SETTINGS + "low_resource: [en-xx]", "unknown task 'en-xx'"),
        (f"settings: {{a: {EXCESS_LOSS}}}", "requires `baselines`"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_reported_before_anything_runs(text, message, written):
    with pytest.raises(ConfigError, match=message) as error:
        written(text).check()
    assert "sweep.yaml" in str(error.value)


def test_another_configuration_makes_an_evaluation_stale(written, tmp_path):
    plan = written(SETTINGS)
    key = plan.definition.run_keys()[0]
    directory, config = tmp_path / "run", plan.run_config(key)
    assert jobs.write_config(config, directory)
    (directory / "evaluation-test.json").write_text("{}")
    assert not jobs.write_config(config, directory)
    assert (directory / "evaluation-test.json").exists()
    config.trainer.train_steps += 10
    assert jobs.write_config(config, directory)
    assert not (directory / "evaluation-test.json").exists()


def test_a_job_that_fails_does_not_end_the_others(tmp_path):
    lines = []
    pool = jobs.Pool(2, lines.append)
    pool.run(
        [
            jobs.Job(
                "bad", [["prepare", "--config_file", "absent.yaml"], ["never"]], tmp_path / "a"
            ),
            jobs.Job("good", [["--version"], ["report", "--help"]], tmp_path / "b"),
        ]
    )
    assert pool.failed == ["bad"]
    assert any(line.startswith("bad: FAILED with exit code 2: error: ") for line in lines)
    assert any(line.startswith("good: done") for line in lines)
    assert "never" not in (tmp_path / "a").read_text()
    assert "usage: keras-mtl report" in (tmp_path / "b").read_text()


def test_two_sweeps_do_not_work_in_one_directory(tmp_path):
    import subprocess

    lines = []
    with jobs.locked(tmp_path, lines.append) as descriptor:
        # A process that a killed sweep leaves behind keeps the lock until it has saved.
        left = subprocess.Popen(["sleep", "0.5"], pass_fds=[descriptor])
    with jobs.locked(tmp_path, lines.append):
        assert left.poll() is not None or lines
    assert lines == [f"waiting for another process that works in {tmp_path}"]
    left.wait()


def test_only_what_is_not_done_runs_and_the_report_finds_the_runs(written, sweep, monkeypatch):
    script = sweep["compare_schedules"]
    plan = written(SETTINGS + "seeds: [1, 2]\nbaselines: {trainer.train_steps: 60}\n")
    keys = plan.definition.run_keys()
    (size,) = plan.definition.sizes
    names = [pair.name for pair in plan.base.task.pairs]
    baselines = list(script.baseline_runs(plan, keys))
    assert [job.name for job in script.jobs_of(plan, baselines, None)] == [
        f"baseline tiny {name}" for name in names
    ]
    for name in names:
        (plan.baselines_directory(size) / name / "evaluation-test.json").write_text("{}")
    assert not script.jobs_of(plan, baselines, None)
    (plan.baselines_directory(size) / "losses.json").write_text("{}")
    compared = list(script.compared_runs(plan, keys))
    (job, *others) = script.jobs_of(plan, compared, None)
    assert [command[0] for command in job.commands] == ["train", "evaluate"]
    (plan.directory / keys[0].directory / "evaluation-test.json").write_text("{}")
    assert script.jobs_of(plan, compared, None) == others

    sizes = [{"name": name, "train_size": 100 - i} for i, name in enumerate(names)]
    monkeypatch.setattr(script, "read_manifest", lambda path: {"tasks": sizes})
    script.write_manifest(plan)
    found = json.loads((plan.directory / "sweep.json").read_text())
    assert (found["high_resource"], found["low_resource"]) == (names[:3], names[3:])
    directories = run_directories(plan.directory)
    assert len(directories) == len(keys) + len(names)


def test_arguments_choose_a_part_of_a_sweep(sweep, monkeypatch, tmp_path, capsys):
    file = tmp_path / "sweep.yaml"
    file.write_text(f"config_files: {ROOT / 'configs/demo.yaml'}\n{SETTINGS}seeds: [1, 2]\n")

    def run(*arguments):
        words = [str(file), "--model_dir", str(tmp_path / "runs"), "--dry_run", *arguments]
        monkeypatch.setattr(sys, "argv", ["compare_schedules.py", *words])
        return sweep["compare_schedules"].main()

    assert run("--settings", "ratio", "--seeds", "2") == 0
    assert capsys.readouterr().out == "runs/tiny-full/ratio-2: to do\n"
    assert run("--settings", "other") == 2
    assert capsys.readouterr().err.startswith("error: --settings other: ")
    assert not (tmp_path / "runs").exists()


def test_the_proposer_is_compared_at_equal_compute(sweep, monkeypatch, tmp_path, capsys):
    script = sweep["compare_proposer"]
    file = tmp_path / "sweep.yaml"
    file.write_text(
        f"config_files: {ROOT / 'configs/demo.yaml'}\noverrides: {{trainer.train_steps: 700}}\n"
        + SETTINGS
        + "  proportional: {trainer.schedule.name: proportional}\n"
        + "  temperature_3: {trainer.schedule: {name: temperature, parameters: {temperature: 3}}}\n"
        + "seeds: [1, 2]\n"
    )
    ran, given = [], []

    def run_sweep(plan, keys, jobs, results):
        assert results == tmp_path / "results"
        ran.extend((key.setting, key.seed) for key in keys)
        if ran[-1][0] == "proposed":
            schedule = plan.run_config(keys[0]).trainer.schedule
            assert (schedule.name, schedule.parameters["weights"]["en-fr"]) == ("constant", 0.1)
            # The report still has all settings of the file.
            assert {key.setting for key in plan.definition.run_keys()} > {"five", "ratio"}
        return 0

    def propose(words):
        given.extend(words)
        directory = pathlib.Path(words[words.index("--model_dir") + 1])
        tasks = [{"name": f"en-{to}", "weight": 0.1} for to in ("fr", "de", "es", "it", "ca", "gl")]
        (directory / "proposal.json").write_text(json.dumps({"tasks": tasks}))
        return 0

    monkeypatch.setattr(script, "run_sweep", run_sweep)
    monkeypatch.setattr(script.cli, "main", propose)
    words = ["compare_proposer.py", str(file), "--model_dir", str(tmp_path / "runs"), "--jobs", "1"]
    words += ["--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", [*words, "--", "--objective", "worst"])
    assert script.main() == 0, capsys.readouterr().err
    settings = ("proportional", "temperature_3")
    assert ran == [
        *((name, seed) for seed in (1, 2) for name in settings),
        *(("proposed", seed) for seed in (1, 2)),
    ]
    # 21 proxies share the steps of one run.
    assert given[given.index("--proxy_override") + 1] == "trainer.train_steps=33"
    assert given[-2:] == ["--objective", "worst"]
    assert (
        "1,400 in all; proposal: 21 proxy runs of 33 and one of 700, 1,393"
        in capsys.readouterr().out
    )
