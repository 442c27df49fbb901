"""Runs disturbed at random moments end as a run that is not; see benchmarks/survival.py."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks/survival.py"


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("count", "options"),
    [
        (50, ["--kinds", "all", "--variants", "batch,example-packed,limited"]),
        (20, ["--kinds", "kill,stop", "--variants", "all", "--workers", "2"]),
    ],
)
def test_disturbances_change_nothing(count, options):
    words = [sys.executable, str(BENCHMARK), "--count", str(count), *options]
    done = subprocess.run(words, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every run ended as the undisturbed one, bit for bit" in done.stdout
    counts = [int(line.split()[0]) for line in done.stdout.splitlines() if line.startswith(" ")]
    assert sum(counts) == count
