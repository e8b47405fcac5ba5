"""Describes the machine that runs a validation."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from equipoise.convert.core.framework_types import JsonValue

REPORTED_PACKAGES = ("equipoise", "numpy", "transformers", "tokenizers")


def describe_host() -> dict[str, JsonValue]:
    """Returns processor, cores, operating system, and the versions of the packages that tasks depend on."""
    versions = {}
    for name in REPORTED_PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
