"""Runs commands and measures the seconds and the peak memory of the whole process.

On Linux the peak memory of a child process includes the memory of its parent at the time of the fork, so this module keeps
its own memory small: it does not import numpy and does not read whole files.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class CommandError(Exception):
    """A measured command failed."""


@dataclass(frozen=True)
class Sample:
    """The measurements of one run.

    Attributes:
        seconds: Seconds of the whole process.
        peak: Peak resident memory in bytes, without the page cache.
        call: Seconds that the process itself measured around the call, without start and imports.
        output: Other values that the process reports.
        cpu: Seconds that all its threads computed, in the kernel too.
    """

    seconds: float
    peak: int
    call: float | None = None
    output: Mapping[str, Any] = field(default_factory=dict)
    cpu: float = 0


def run_command(command: Sequence[str | Path]) -> Sample:
    """Runs a command and measures it; the JSON in the last line of its output becomes part of the sample.

    Raises:
        CommandError: The command fails.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen([*map(str, command)], stdout=out, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            text = errors.read().decode(errors="replace")[-2000:]
            raise CommandError(f"{command} ended with {process.returncode}:\n{text}")
        out.seek(0)
        output = _parse_last_line(out.read().decode(errors="replace"))
    call = output.pop("call", None)
    cpu = usage.ru_utime + usage.ru_stime
    return Sample(seconds, usage.ru_maxrss * 1024, call, output, cpu)


def _parse_last_line(text: str) -> dict[str, Any]:
    lines = text.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        return {}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


REST = 4.0
"""Seconds to wait before each run. A virtual machine may return freed memory to its host within about two seconds;
a copy right after a deletion would still find that memory in the page cache, while slower commands would not.
"""


def remove_and_wait(folder: Path) -> None:
    """Removes the last result and waits for the disk and the memory, so that no run is slowed down by the one before."""
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()
    time.sleep(REST)


def warm_page_cache(folder: Path) -> None:
    """Reads all files of a folder into the page cache."""
    for path in folder.iterdir():
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def measure_copy(source: Path, target: Path, *, durable: bool) -> Sample:
    """Measures ``cp`` of a folder; with ``durable`` the time includes waiting for the disk, as Equipoise's conversion does."""
    target.mkdir(parents=True)
    script = 'cp "$0"/* "$1"/' + (' && sync "$1"/*' if durable else "")
    return run_command(["sh", "-c", script, source, target])


def median_sample(samples: Sequence[Sample]) -> Sample:
    """Returns a sample with the median seconds and the highest peak of several samples."""
    calls = [sample.call for sample in samples if sample.call is not None]
    return Sample(
        statistics.median(sample.seconds for sample in samples),
        max(sample.peak for sample in samples),
        statistics.median(calls) if calls else None,
        samples[-1].output,
    )
