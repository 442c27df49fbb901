"""A swarm of real trainings, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

CONFIG = """
task:
  pairs:
  - {source: en, target: fr, max_pairs: 600}
  - {source: en, target: gl, max_pairs: 60}
  data:
    corpora: [{reader: cldr, options: {pairs: 1500, seed: 1}}]
    vocabulary: {size: 400}
    bucket_lengths: [64]
    max_length: 64
    dev_pairs: 20
    test_pairs: 20
    tokens_per_batch: 1024
  model:
    {size: tiny, hidden_dim: 16, num_heads: 2, intermediate_dim: 32, encoder_layers: 1,
     decoder_layers: 1}
trainer:
  {train_steps: 100, steps_per_loop: 10, checkpoint_interval: 10,
   optimizer: {learning_rate: 2.0, warmup_steps: 20}}
"""


def start(config, directory):
    command = [sys.executable, "-m", "keras_mtl", "propose", "--config_file", str(config)]
    command += ["--model_dir", str(directory), "--proxy_override", "trainer.train_steps=40"]
    command += ["--proxies", "5", "--jobs", "2", "--max_passes", "1000", "--importance", "en-gl=1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process, code=0):
    output, _ = process.communicate(timeout=1800)
    assert process.returncode == code, output
    return output


@pytest.mark.nightly  # Two swarms of five small trainings each: three minutes of a core.
def test_a_killed_swarm_of_real_runs_gives_the_same_proposal(tmp_path):
    config = tmp_path / "experiment.yaml"
    config.write_text(CONFIG)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    output = finish(start(config, whole))
    assert "proposal for 100 steps" in output
    assert (whole / "proposal.png").read_bytes().startswith(b"\x89PNG")

    process = start(config, killed)
    end = time.monotonic() + 900
    log = killed / "proxies/0001/metrics.jsonl"
    while not (log.exists() and '"step": 10' in log.read_text()):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert "the same command resumes" in finish(process, 128 + signal.SIGTERM)
    assert not (killed / "proposal.json").exists()
    finish(start(config, killed))
    first, second = (json.loads((root / "proposal.json").read_text()) for root in (whole, killed))
    assert first == second
    assert len(first["runs"]) == 5
    # The proxies are not trained again.
    before = {path: os.stat(path).st_mtime_ns for path in killed.glob("proxies/*/metrics.jsonl")}
    assert "0 of 5 proxy runs" in finish(start(config, killed))
    assert {path: os.stat(path).st_mtime_ns for path in before} == before
