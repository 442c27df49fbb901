"""Runs the TPU compiler in its own environment, which has JAX and libtpu instead of TensorFlow."""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_mtl.errors import ConfigError, InputError
from keras_mtl.files import replace_file
from keras_mtl.remote_files import cache_root
from keras_mtl.tpu_check import compile_hlo
from keras_mtl.tpu_check.results import Compiled, Exhausted, read_compiled, read_exhausted

# The versions that were tested; scripts/tpu_compiler.sh installs them.
VERSIONS = {"jax": "0.10.2", "libtpu": "0.0.42.1"}
_SCRIPT = "scripts/tpu_compiler.sh"
# What differs between processes and places, and does not change the compiled program: where an
# operation comes from, and TensorFlow's numbers of functions.
_VARYING = re.compile(r", metadata=\{[^}]*\}|(?<=_)\d+__(?=\W)")
_SHOWN = 2000  # Characters of an error of the compiler.


def default_python() -> Path:
    """Returns the interpreter of the environment that the script makes."""
    return cache_root() / "tpu_compiler" / "bin" / "python"


class Compiler:
    """The TPU compiler for one topology.

    Args:
        python: interpreter of an environment with JAX and libtpu.
        topology: name of the topology, such as `v5e:2x4`.
        cache: directory where results are kept, because a program takes minutes; None keeps none.

    Attributes:
        devices: number of devices of the topology.
        limit: memory of a device in bytes; None if the compiler did not say.
        versions: versions of the packages.

    Raises:
        ConfigError: the environment is missing or does not have these packages.
        InputError: the compiler does not know the topology.
    """

    def __init__(self, python: str | os.PathLike[str], topology: str, cache: Path | None) -> None:
        self.topology = topology
        self._python = Path(python)
        self._cache = cache
        if not os.access(self._python, os.X_OK):
            raise ConfigError(
                f"--python {self._python}: no such program. The TPU compiler needs a Python "
                f"environment of its own: run {_remedy()}"
            )
        result = self._run({"topology": topology})
        self.versions: Mapping[str, str] = result["versions"]
        if result.get("status") == "topology":
            raise InputError(
                f"--topology {topology}: the TPU compiler does not know it: {result['message']}"
            )
        found = self._outcome(result)
        self.limit = found.limit if isinstance(found, Exhausted) else None
        self.devices = int(result["devices"])

    def compile(self, text: str) -> Compiled | Exhausted:
        """Compiles a program for all devices of the topology.

        Args:
            text: XLA's text of the program of a replica.

        Raises:
            ConfigError: JAX has other functions than those that are used.
            InputError: the compiler does not accept the program.
        """
        kept = self._cache and self._cache / f"{self._key(text)}.json"
        if kept and kept.exists():
            return self._outcome(json.loads(kept.read_text()))
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "program.hlo")
            file.write_text(text, encoding="utf-8")
            result = self._run(
                {"topology": self.topology, "replicas": self.devices, "hlo": str(file)}
            )
        outcome = self._outcome(result)
        if kept:
            replace_file(kept, json.dumps(result))
        return outcome

    def _key(self, text: str) -> str:
        figures = [field.name for field in dataclasses.fields(Compiled)]
        versions = sorted(self.versions.items())
        parts = (self.topology, versions, figures, _VARYING.sub("", text))
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def _run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Runs `compile_hlo` in the environment and returns its result."""
        with tempfile.TemporaryDirectory() as directory:
            wanted, result = Path(directory, "request.json"), Path(directory, "result.json")
            wanted.write_text(json.dumps(request), encoding="utf-8")
            # What is set for this process may not suit the other interpreter.
            own = ("PYTHON", "XLA_FLAGS")
            kept = {k: value for k, value in os.environ.items() if not k.startswith(own)}
            done = subprocess.run(
                [self._python, compile_hlo.__file__, wanted, result],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=kept,
                check=False,
            )
            if result.exists():
                found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
                return found
        error = done.stderr.strip()
        last = error.rpartition("\n")[2]
        if "PackageNotFoundError" in last or "ModuleNotFoundError" in last:
            raise ConfigError(
                f"--python {self._python}: this environment does not have JAX and libtpu "
                f"({last}). Run {_remedy()}"
            )
        raise ConfigError(
            f"--python {self._python}: the TPU compiler ended with exit code {done.returncode}: "
            f"{error[-_SHOWN:]}"
        )

    def _outcome(self, result: Mapping[str, Any]) -> Compiled | Exhausted:
        status, message = result.get("status"), str(result.get("message"))
        if status is None:
            return read_compiled(result)
        if status == "moved":
            have = " and ".join(f"{name} {version}" for name, version in self.versions.items())
            raise ConfigError(
                f"--python {self._python}: {have} lack a function that is not public: {message}. "
                f"Run {_remedy()}"
            )
        if status == "exhausted" and (exhausted := read_exhausted(message)) is not None:
            return exhausted
        raise InputError(f"the TPU compiler failed: {message[:_SHOWN]}")


def _remedy() -> str:
    packages = " ".join(f"{name}=={version}" for name, version in VERSIONS.items())
    return (
        f"{_SCRIPT}, which makes one with {packages}, or give the interpreter of an environment "
        "with these packages"
    )
