"""Compiles one program with the TPU compiler, in an environment with JAX and libtpu.

This file is a program of its own. It imports nothing of keras_mtl, because that environment does
not have it. `keras_mtl.tpu_check.compiler` starts it:

    python compile_hlo.py REQUEST RESULT

REQUEST is a JSON file: `topology`, such as "v5e:2x4", `replicas`, and `hlo`, a file with XLA's text
of a program. Without `hlo`, a program that no chip can hold is compiled, to learn the limit.
RESULT is written as JSON; `keras_mtl.tpu_check.results` reads it. It has `versions` and one of

* the figures of a compiled program,
* `devices`, if there was no `hlo`: number of devices of the topology,
* `status`: `topology` (not known to libtpu), `exhausted` (too large for the chip), `moved` (JAX
  does not have a function that is used here) or `failed`, with `message`.

The compile-only client is public (`jax.experimental.topologies`), but JAX has no public function
that compiles a program of another framework. What is private is in `Private` and only there.
"""

import importlib
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

# 1 TB of arguments.
_TOO_LARGE = """
HloModule too_large, entry_computation_layout={(f32[500000,500000]{1,0})->f32[500000,500000]{1,0}}

ENTRY main {
  value = f32[500000,500000]{1,0} parameter(0)
  ROOT sum = f32[500000,500000]{1,0} add(value, value)
}
"""
_COLLECTIVE = re.compile(
    r"= (.+?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
# JAX's exceptions for what it does not have or what is called differently.
_MOVED = (AttributeError, ImportError, KeyError, TypeError)


class Private:
    """The functions of JAX that are not public. Tested with JAX 0.10.2.

    Raises:
        AttributeError, ImportError: JAX does not have one of them.
    """

    def __init__(self) -> None:
        jax_module = importlib.import_module("jax._src.lib")._jax
        self.device_list = jax_module.DeviceList
        self._to_stablehlo = jax_module.mlir.hlo_to_stablehlo
        self._parse = importlib.import_module("jaxlib._hlo").hlo_module_from_text
        self.compile_options = importlib.import_module("jax._src.compiler").get_compile_options
        self._context = importlib.import_module("jax._src.interpreters.mlir").make_ir_context
        self._module = importlib.import_module("jax._src.lib.mlir").ir.Module

    def module(self, text: str) -> Any:
        """Returns a program in StableHLO from XLA's text."""
        # TensorFlow marks some values as copied. StableHLO has no such operation; reshaping to the
        # same shape does nothing either.
        text = re.sub(r"\bcopy\(", "reshape(", text)
        stable = self._to_stablehlo(self._parse(text).as_serialized_hlo_module_proto())
        with self._context():
            return self._module.parse(stable)


def answer(topology: str, text: str | None, replicas: int) -> dict[str, Any]:
    """Returns RESULT without the versions.

    Args:
        topology: name of the topology.
        text: XLA's text of the program of a replica; None for the program that is too large.
        replicas: number of devices that run the program.
    """
    found: dict[str, Any] = {}
    try:
        devices = find_devices(topology)
        if text is None:
            found["devices"] = len(devices)
        return found | compile_text(text or _TOO_LARGE, devices[:replicas])
    except TopologyError as error:
        return {"status": "topology", "message": str(error)}
    except _MOVED as error:
        return {"status": "moved", "message": f"{type(error).__name__}: {error}"}
    except Exception as error:  # JAX's, whose class has changed its place before.
        exhausted = "RESOURCE_EXHAUSTED" in str(error)
        return found | {"status": "exhausted" if exhausted else "failed", "message": str(error)}


def compile_text(text: str, devices: Sequence[Any]) -> dict[str, Any]:
    """Compiles a program and returns its figures.

    Args:
        text: XLA's text of the program of a replica.
        devices: the devices that run it.
    """
    import numpy as np

    begin = time.monotonic()
    private = Private()
    replicas = len(devices)
    assignment = np.arange(replicas).reshape(replicas, 1) if replicas > 1 else None
    options = private.compile_options(
        num_replicas=replicas, num_partitions=1, device_assignment=assignment
    )
    program = devices[0].client.compile(
        private.module(text), private.device_list(tuple(devices)), options
    )
    return {"seconds": time.monotonic() - begin, **figures_of(program)}


def figures_of(program: Any) -> dict[str, Any]:
    """Returns memory in bytes, costs and operations of a compiled program."""
    memory = program.get_compiled_memory_stats()
    costs = program.cost_analysis()
    if isinstance(costs, (list, tuple)):
        costs = costs[0]
    text = program.hlo_modules()[0].to_string()
    return {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "aliased": memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
        "flops": costs["flops"],
        "bytes_accessed": costs["bytes accessed"],
        "loops": len(re.findall(r" while\(", text)),
        "collectives": [[name, shape] for shape, name in _COLLECTIVE.findall(text)],
    }


def find_devices(topology: str) -> Any:
    """Returns the devices of a topology; `TopologyError` if there is none of this name."""
    topologies = importlib.import_module("jax.experimental.topologies")
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except Exception as error:
        if "INVALID_ARGUMENT" in str(error):
            raise TopologyError(str(error)) from error
        raise


class TopologyError(Exception):
    """libtpu does not know a topology."""


def main(request_file: str, result_file: str) -> None:
    """Compiles what a request names, and writes the result."""
    # Otherwise libtpu asks Google Cloud's metadata server which TPU this is, and waits.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    # Only one process may use a TPU, but any number can compile for one.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ["JAX_PLATFORMS"] = "cpu"
    with open(request_file, encoding="utf-8") as file:
        request = json.load(file)
    versions = {name: metadata.version(name) for name in ("jax", "libtpu")}
    text = None
    if request.get("hlo"):
        with open(request["hlo"], encoding="utf-8") as file:
            text = file.read()
    result = answer(request["topology"], text, request.get("replicas", 1))
    with open(result_file, "w", encoding="utf-8") as file:
        json.dump({"versions": versions, **result}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
