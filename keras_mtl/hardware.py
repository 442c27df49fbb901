"""A description of this machine, for reports of results that depend on it."""

import os
import platform
from collections.abc import Sequence
from typing import Any


def processor_name() -> str:
    """Returns the name of the processor, or its architecture if the name is not known."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:  # Not Linux; only Python's own information is left.
        pass
    return platform.processor() or platform.machine()


def processor_count() -> int:
    """Returns the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(accelerators: Sequence[str] = ()) -> dict[str, Any]:
    """Describes this machine as plain data.

    Args:
        accelerators: names of the GPUs or TPUs in use.

    Returns:
        `processor` (name), `processors` (number that this process may use), `architecture`, and,
        if there are any, `accelerators`.
    """
    found = {
        "processor": processor_name(),
        "processors": processor_count(),
        "architecture": platform.machine(),
    }
    return {**found, "accelerators": list(accelerators)} if accelerators else found
