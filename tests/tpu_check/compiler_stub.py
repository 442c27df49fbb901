"""Stands for the interpreter of the TPU compiler's environment.

It answers the requests of `keras_mtl.tpu_check.compile_hlo` as its directory says, and keeps there
each program that it gets.
"""

import json
import sys
from pathlib import Path
from typing import Any

VERSIONS = {"jax": "0.10.2", "libtpu": "0.0.42.1"}
PROBE = {
    "versions": VERSIONS,
    "devices": 4,
    "status": "exhausted",
    "message": "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
    "temporaries (1.82T) exceeds available HBM (15.75G).",
}
PROGRAM = {
    "versions": VERSIONS,
    "seconds": 2.5,
    "arguments": 1_000_000_000,
    "outputs": 900_000_000,
    "aliased": 800_000_000,
    "temporaries": 3_000_000_000,
    "code": 10_000_000,
    "flops": 1.97e12,
    "bytes_accessed": 81.9e9,
    "loops": 2,
    "collectives": [
        ["all-reduce", "(f32[8,128]{1,0:T(8,128)S(1)}, /*index=5*/bf16[4]{0}, f32[])"],
        ["all-gather", "s32[2]{0}"],
    ],
}
TOO_LARGE = {
    "versions": VERSIONS,
    "status": "exhausted",
    "message": "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
    "space hbm. Used 28.00G of 15.75G hbm. Exceeded hbm capacity by 12.25G.",
}


def install(directory: Path, program: Any = PROGRAM, probe: Any = PROBE) -> Path:
    """Makes the interpreter; returns its path.

    Args:
        directory: where to make it.
        program: its answer for a program; None lets it crash.
        probe: its answer without a program; None lets it crash.
    """
    (directory / "answers.json").write_text(json.dumps([probe, program]))
    python = directory / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "{directory}" "$@"\n')
    python.chmod(0o755)
    return python


def main(directory: str, _: str, request_file: str, result_file: str) -> None:
    request = json.loads(Path(request_file).read_text())
    probe, program = json.loads(Path(directory, "answers.json").read_text())
    if hlo := request.get("hlo"):
        number = len(list(Path(directory).glob("*.hlo")))
        Path(directory, f"{number}.hlo").write_text(Path(hlo).read_text())
    if answer := program if hlo else probe:
        Path(result_file).write_text(json.dumps(answer))
    else:
        sys.exit("libtpu: Check failed: out of luck")


if __name__ == "__main__":
    main(*sys.argv[1:])
