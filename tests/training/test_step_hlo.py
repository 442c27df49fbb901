"""The programs of a training step are such as a TPU can run: static, without calls to the host."""

import json
import re

import hlo_case
import pytest

from keras_mtl.balancing import available
from keras_mtl.tpu_check.compiler import Compiler, default_python
from keras_mtl.tpu_check.results import Compiled
from tests import processes


def mixed(method):
    """A case of balancing within mixed batches."""
    return {"method": method, "mixed": True}


CASES = {
    "transformer, bfloat16, accumulation, decoder per language": {
        "transformer": True,
        "precision": "mixed_bfloat16",
        "accumulation": 2,
        "decoders": 2,
    },
    "transformer, chunks, recomputation": {"transformer": True, "saving": True},
    "packed, four replicas": {"transformer": True, "packed": True, "replicas": 4, "mixed": True},
    "scaled moments, average": {"moments": "scaled", "average": 0.9},
    # One of the methods whose programs have a loop, and one that also looks at losses.
    "mixed, mgda": mixed("mgda"),
    "accumulation, famo": {"method": "famo", "accumulation": 2},
}
NIGHTLY = {
    "transformer": {"transformer": True, "average": 0.9, "decay": 0.1},
    "moments per task": {"moments": "per_task"},
    **{f"accumulation, {m}": {"method": m, "accumulation": 2} for m in ("pcgrad", "random")},
}
NIGHTLY |= {
    name: case
    for name, case in {f"mixed, {method}": mixed(method) for method in available()}.items()
    if name not in CASES
}
# Conditions choose the decoder of a language. Loops go over chunks of logits, or solve for the
# weights of tasks. Both have static shapes and stay on the device.
ALLOWED_CONTROL = {
    "transformer, bfloat16, accumulation, decoder per language": {"conditional"},
    "transformer, chunks, recomputation": {"while"},
    "mixed, cagrad": {"while"},
    "mixed, mgda": {"while"},
    "mixed, upgrad": {"while"},
    "mixed, fairgrad": {"while"},
    "mixed, nash_mtl": {"while"},
}
# XLA expands eigenvalues of small matrices into loops on the device.
EXPANDED = re.compile(r'custom-call(\([^\n]*custom_call_target="Eigh")')
# 64-bit integers count updates and seed dropout; a TPU computes them in pairs of 32 bits.
TYPES = {"pred", "s32", "u32", "s64", "u64", "u16", "f32"}
REFUSED = {
    "custom-call",
    "infeed",
    "outfeed",
    "send",
    "recv",
    "set-dimension-size",
    "get-dimension-size",
    "dynamic-reshape",
    "sort",
}


def lower(directory, cases):
    """Returns the HLO of each program of each case, by names."""
    (directory / "cases.json").write_text(json.dumps(list(cases.values())))
    processes.run(hlo_case.main, directory)
    return {
        name: {
            file.name.split(".")[1]: file.read_text() for file in directory.glob(f"{number}.*.txt")
        }
        for number, name in enumerate(cases)
    }


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return lower(tmp_path_factory.mktemp("hlo"), CASES)


def operations(text):
    """Returns the set of operations of a program."""
    return set(re.findall(r"^\s*(?:ROOT )?\S+ = .*?\s([a-z][a-z0-9-]*)\(", text, re.MULTILINE))


def types(text):
    return set(re.findall(r"\b([a-z]+\d*)\[[\d,<=]*\]", text))


@pytest.mark.parametrize("name", CASES)
def test_shapes_are_static_and_nothing_leaves_the_device(programs, name):
    check_programs(programs[name], name, CASES[name])


@pytest.fixture(scope="module")
def more_programs(tmp_path_factory):
    return lower(tmp_path_factory.mktemp("hlo"), NIGHTLY)


@pytest.mark.nightly
@pytest.mark.parametrize("name", NIGHTLY)
def test_shapes_are_static_with_every_method_of_balancing(more_programs, name):
    check_programs(more_programs[name], name, NIGHTLY[name])


def check_programs(programs, name, case):
    expected = {"one_batch"}
    if case.get("accumulation", 1) > 1:
        expected = {"part", "update"}
    if case.get("method") == "famo" and len(expected) > 1:
        expected |= {"after", "look_back"}
    assert programs.keys() == expected
    for text in programs.values():
        found = operations(EXPANDED.sub(r"eigh\1", text))
        assert "add" in found
        assert not found & REFUSED
        assert found & {"while", "conditional"} <= ALLOWED_CONTROL.get(name, set())
        assert "<=" not in "".join(re.findall(r"\b[a-z]+\d*\[[^\]\"]*\]", text))
        bfloat16 = {"bf16"} if case.get("precision") == "mixed_bfloat16" else set()
        assert types(text) <= TYPES | bfloat16


@pytest.fixture(scope="module")
def tpu_compiler():
    python = default_python()
    if not python.exists():
        pytest.skip("scripts/tpu_compiler.sh has not made the environment of the TPU compiler")
    return Compiler(python, "v5e:2x2", cache=None)


@pytest.mark.nightly
@pytest.mark.parametrize("name", CASES)
def test_the_tpu_compiler_accepts_every_program(programs, tpu_compiler, name):
    check_compiled(programs[name], tpu_compiler)


@pytest.mark.nightly
@pytest.mark.parametrize("name", NIGHTLY)
def test_the_tpu_compiler_accepts_every_method_of_balancing(more_programs, tpu_compiler, name):
    check_compiled(more_programs[name], tpu_compiler)


def check_compiled(programs, tpu_compiler):
    for text in programs.values():
        found = tpu_compiler.compile(text)
        assert isinstance(found, Compiled)
        assert 0 < found.total < tpu_compiler.limit
        assert found.bytes_accessed > 0
        # The compiler removes the second sum of each gradient and merges the others.
        assert found.all_reduces == (1 if " all-reduce(" in text else 0)


def test_replicas_communicate_only_by_sums(programs):
    text = programs["packed, four replicas"]["one_batch"]
    # Each gradient is summed for its norm and again by the optimizer. The sums of
    # losses and tokens are one vector.
    gradients = text.count(" all-reduce(") // 2
    assert text.count(" all-reduce(") == 2 * gradients + 1
    assert gradients > 20
    assert set(re.findall(r"replica_groups=(\S+),", text)) == {"{{0,1,2,3}}"}


def test_products_of_bfloat16_are_bfloat16(programs):
    name = next(name for name, case in CASES.items() if "precision" in case)
    products = re.findall(r"= (\w+)\[[^\n]* dot\(", programs[name]["part"])
    # The loss sums over tokens in float32.
    assert products.count("bf16") > 20 > products.count("f32")


def test_what_is_refused_is_found():
    """The patterns above match XLA's text."""
    text = """
  %set.1 = f32[<=8,2]{1,0} set-dimension-size(f32[8,2]{1,0} %a, s32[] %b), dimensions={0}
  ROOT call.2 = (f64[3]{0}, s32[]) custom-call(f64[3]{0} %c), custom_call_target="host"
"""
    assert operations(text) == {"set-dimension-size", "custom-call"}
    assert "f64" in types(text)
    assert "<=" in "".join(re.findall(r"\b[a-z]+\d*\[[^\]\"]*\]", text))
