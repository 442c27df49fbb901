"""A sweep that is killed and started again has the results of one that was not."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SWEEP = f"""
config_files: {ROOT}/configs/demo.yaml
overrides:
  task.pairs:
  - {{source: en, target: fr, max_pairs: 300}}
  - {{source: en, target: gl, max_pairs: 60}}
  task.data:
    vocabulary: {{size: 400}}
    bucket_lengths: [64]
    max_length: 64
    dev_pairs: 20
    test_pairs: 20
  task.model: {{hidden_dim: 16, num_heads: 2, intermediate_dim: 32}}
  task.model.encoder_layers: 1
  task.model.decoder_layers: 1
  task.decoding: {{max_length: 12, beam_size: 1}}
  trainer: {{train_steps: 120, steps_per_loop: 20, checkpoint_interval: 20}}
  # Above 0 also for a model that has learned little.
  trainer.evaluation: {{interval: 40, max_pairs: 10, metric: neg_log_perplexity}}
baselines: {{trainer.train_steps: 40, trainer.evaluation.interval: 20}}
settings:
  temperature_5: {{trainer.schedule: {{name: temperature, parameters: {{temperature: 5}}}}}}
  inverse_ratio: {{trainer.schedule.name: inverse_ratio}}
  excess_loss:
    trainer.schedule: {{name: excess_loss, parameters: {{reference_losses: "@baseline_losses"}}}}
seeds: [1]
"""


def start(sweep, directory):
    command = [sys.executable, str(ROOT / "benchmarks/compare_schedules.py"), str(sweep)]
    command += ["--model_dir", str(directory), "--jobs", "2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(directory, pattern, step):
    """Waits until a run has logged a step."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        for log in directory.glob(f"{pattern}/metrics.jsonl"):
            lines = log.read_text().split("\n")[:-1]
            if any(json.loads(line)["step"] >= step for line in lines):
                return
        time.sleep(0.1)
    raise TimeoutError(f"{pattern} has not reached step {step}")


def events(directory):
    """The log of a run without times."""
    found = []
    for line in (directory / "metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        for field in ("tokens_per_second", "seconds", "waited_seconds"):
            event.pop(field, None)
        found.append(event)
    return found


@pytest.mark.nightly  # Two sweeps of five small trainings each: three minutes of a core.
def test_a_killed_sweep_resumes_exactly(tmp_path):
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(SWEEP)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(sweep, whole)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output

    # Killed while a baseline trains: its process gets SIGTERM and saves.
    process = start(sweep, killed)
    wait_for(killed, "baselines/tiny/*", 20)
    process.kill()
    process.wait()
    # Stopped while runs train.
    process = start(sweep, killed)
    wait_for(killed, "runs/tiny-full/*", 20)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "the same command resumes" in output
    process = start(sweep, killed)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output

    directories = [path.parent.relative_to(whole) for path in whole.glob("*/*/*/metrics.jsonl")]
    assert len(directories) == 5
    for directory in directories:
        assert events(killed / directory) == events(whole / directory), directory
        translated = [root / directory / "evaluation-test" for root in (whole, killed)]
        for path in translated[0].iterdir():
            assert path.read_bytes() == (translated[1] / path.name).read_bytes()
    results = [json.loads((root / "report/results.json").read_text()) for root in (whole, killed)]
    first, second = (found["models"][0]["settings"] for found in results)
    assert [s["setting"] for s in first] == ["temperature_5", "inverse_ratio", "excess_loss"]
    for one, other in zip(first, second, strict=True):
        assert one["test"] == other["test"]
        assert one["against_baselines"] == other["against_baselines"]
    # Nothing is done twice.
    before = {path: path.stat().st_mtime_ns for path in killed.glob("runs/*/*/*") if path.is_file()}
    process = start(sweep, killed)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert os.path.exists(killed / "report/index.html")
