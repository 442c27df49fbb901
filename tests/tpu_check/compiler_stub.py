"""Stands for the interpreter of the TPU compiler's environment.

It answers `keras_mtl.tpu_check.compile_hlo`'s requests from the environment variables STUB_PROBE and
STUB_PROGRAM, both JSON, and keeps each program that it gets in the directory STUB_DIRECTORY.
"""

import json
import os
import sys
from pathlib import Path

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


def install(directory: Path) -> Path:
    """Makes the interpreter; returns its path."""
    program = directory / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n')
    program.chmod(0o755)
    return program


def main(_: str, request_file: str, result_file: str) -> None:
    request = json.loads(Path(request_file).read_text())
    if hlo := request.get("hlo"):
        directory = Path(os.environ["STUB_DIRECTORY"])
        number = len(list(directory.glob("*.hlo")))
        (directory / f"{number}.hlo").write_text(Path(hlo).read_text())
    name = "STUB_PROGRAM" if hlo else "STUB_PROBE"
    if answer := os.environ.get(name, json.dumps(PROGRAM if hlo else PROBE)):
        Path(result_file).write_text(answer)
    else:
        sys.exit("libtpu: Check failed: out of luck")


if __name__ == "__main__":
    main(*sys.argv[1:])
