"""Describes the machine on which measurements are made."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import shutil
import subprocess
import time
from importlib.metadata import version
from pathlib import Path


def describe_machine(oracle: Path | None) -> dict[str, str | int | float]:
    """Returns date, hardware and versions; nothing that identifies the machine."""
    found: dict[str, str | int | float] = {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": round(os.getloadavg()[0], 2),
        "sha256": _sha256_rate(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "cp": _first_line(["cp", "--version"]),
        **{name: version(name) for name in ("equipoise", "numpy", "h5py")},
    }
    if oracle is not None:
        script = "from importlib.metadata import version as v; print(v('transformers'))"
        found["transformers"] = _first_line([str(oracle), "-c", script])
    return found


def _sha256_rate() -> float:
    """Returns the bytes per second that one core hashes, the best of five runs."""
    data = bytes(16 << 20)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        hashlib.sha256(data)
        seconds.append(time.perf_counter() - began)
    return len(data) / min(seconds)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _first_line(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]
