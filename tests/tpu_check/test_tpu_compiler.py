"""The TPU compiler's answers are read right, kept, and its failures explained. Without JAX."""

import re
import subprocess
import sys
from pathlib import Path

import compiler_stub
import pytest

from keras_mtl.errors import ConfigError, InputError
from keras_mtl.tpu_check import compile_hlo
from keras_mtl.tpu_check.chips import parse_topology
from keras_mtl.tpu_check.compiler import VERSIONS, Compiler
from keras_mtl.tpu_check.results import Compiled, Exhausted, read_exhausted, size_of

ROOT = Path(__file__).parents[2]
GIB = 2**30


@pytest.fixture
def python(tmp_path):
    return compiler_stub.install(tmp_path)


def test_figures_of_a_program(python):
    compiler = Compiler(python, "v5e:2x2", None)
    assert (compiler.devices, compiler.limit) == (4, 15.75 * GIB)
    found = compiler.compile("HloModule a")
    assert isinstance(found, Compiled)
    # The outputs that are not in the memory of arguments count once.
    assert found.total == 1_000_000_000 + 100_000_000 + 3_000_000_000 + 10_000_000
    assert found.all_reduces == 1
    assert found.communicated == 8 * 128 * 4 + 4 * 2 + 4 + 2 * 4


def test_a_program_that_is_too_large(tmp_path):
    python = compiler_stub.install(tmp_path, compiler_stub.TOO_LARGE)
    found = Compiler(python, "v5e:2x2", None).compile("HloModule a")
    assert found == Exhausted(28 * GIB, int(15.75 * GIB))


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        ("required for HLO temporaries (512.5M) exceeds available HBM (1.50G).", 512.5 * 2**20),
        ("used 1.25T of 95.74G hbm.", 1.25 * 2**40),
        ("no room in hbm", None),
    ],
)
def test_messages_about_memory(message, needed):
    assert read_exhausted(message).needed == needed


def test_another_memory_than_hbm_is_not_a_matter_of_the_batch():
    assert read_exhausted("Ran out of memory in memory space vmem. Used 20M of 16M vmem") is None


def test_sizes_of_arrays():
    assert size_of("pred[3]{0}") == 3
    assert size_of("(bf16[2,3]{1,0:T(8,128)(2,1)}, s64[], /*index=5*/u8[0])") == 12 + 8


def test_results_are_kept(python, tmp_path):
    def text(source, add):
        return (
            f"HloModule a_inference__lambda__{source}__.7\n"
            f'  %b = f32[8] {add}(%a, %a), metadata={{op_name="x" source_line={source}}}\n'
        )

    compiler = Compiler(python, "v5e:2x2", tmp_path / "cache")
    first = compiler.compile(text(1, "add"))
    changed = {**compiler_stub.PROGRAM, "flops": 1.0}
    compiler_stub.install(tmp_path, changed)
    # Another place in the sources, but the same program.
    assert compiler.compile(text(2, "add")) == first
    assert compiler.compile(text(1, "multiply")).flops == 1.0
    assert len(list(tmp_path.glob("*.hlo"))) == 2
    newer = {**compiler_stub.PROBE, "versions": {"jax": "1", "libtpu": "1"}}
    compiler_stub.install(tmp_path, changed, newer)
    assert Compiler(python, "v5e:2x2", tmp_path / "cache").compile(text(1, "add")).flops == 1.0


def test_a_missing_environment(tmp_path):
    with pytest.raises(ConfigError, match=r"no such program.*scripts/tpu_compiler.sh.*jax=="):
        Compiler(tmp_path / "python", "v5e:2x2", None)


def test_an_environment_without_jax():
    # TensorFlow's environment.
    with pytest.raises(ConfigError, match=r"does not have JAX and libtpu.*scripts/tpu_compiler.sh"):
        Compiler(sys.executable, "v5e:2x2", None)


@pytest.mark.parametrize(
    ("status", "message", "kind", "expected"),
    [
        ("topology", "not divisible", InputError, "v5e:2x2: the TPU compiler does not know it"),
        ("moved", "no attribute 'x'", ConfigError, r"jax 0.10.2.*no attribute 'x'.*tpu_compiler"),
        ("failed", "INTERNAL: bug", InputError, "the TPU compiler failed: INTERNAL: bug"),
        ("exhausted", "vmem", InputError, "the TPU compiler failed: vmem"),
    ],
)
def test_failures(tmp_path, status, message, kind, expected):
    probe = {**compiler_stub.PROBE, "status": status, "message": message}
    python = compiler_stub.install(tmp_path, probe=probe)
    with pytest.raises(kind, match=expected):
        Compiler(python, "v5e:2x2", None)


def test_a_compiler_that_crashes(tmp_path):
    python = compiler_stub.install(tmp_path, probe=None)
    with pytest.raises(ConfigError, match="exit code 1: libtpu: Check failed: out of luck"):
        Compiler(python, "v5e:2x2", None)


def test_a_function_that_jax_does_not_have_is_named():
    # As this environment has no JAX, nothing of it is found.
    found = compile_hlo.answer("v5e:2x2", "HloModule a", 4)
    assert found["status"] == "moved"
    assert "jax" in found["message"]


def test_topologies():
    chip, count = parse_topology("v5e:2x4")
    assert (chip.label, count) == ("TPU v5e", 8)
    assert parse_topology("v6e:16x16")[1] == 256


@pytest.mark.parametrize("name", ["v5e", "v5e:", "v5e:2", "v5e:0x4", "v5e:2x2x2", "8"])
def test_what_is_not_a_topology(name):
    with pytest.raises(InputError, match=r"expected the version .* such as v5e:2x4"):
        parse_topology(name)


def test_a_version_that_is_unknown():
    with pytest.raises(InputError, match="version 'v5f' is unknown; did you mean 'v5"):
        parse_topology("v5f:2x4")


def test_the_script_installs_the_tested_versions():
    text = (ROOT / "scripts/tpu_compiler.sh").read_text()
    (packages,) = re.findall(r"^packages=\((.*)\)$", text, re.MULTILINE)
    assert dict(package.split("==") for package in packages.split()) == VERSIONS


def test_the_script_explains_itself():
    done = subprocess.run(
        [ROOT / "scripts/tpu_compiler.sh", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].endswith("--python ENVIRONMENT/bin/python.")
