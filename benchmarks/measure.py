"""Runs commands and measures them: seconds of the whole process, and its peak memory.

Linux counts the memory of the process that starts another into the other's peak, so this side stays small: no numpy,
no files read whole.
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
    """What one run took.

    Attributes:
        seconds: The whole process.
        peak: Peak resident memory in bytes; the page cache is no part of it.
        call: Seconds that the process itself measured around the call, without start and imports.
        said: What else the process says.
    """

    seconds: float
    peak: int
    call: float | None = None
    said: Mapping[str, Any] = field(default_factory=dict)


def run(command: Sequence[str | Path]) -> Sample:
    """Runs a command; what it prints as JSON in its last line becomes part of the sample.

    Raises:
        CommandError: It fails.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen([*map(str, command)], stdout=out, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            text = errors.read().decode(errors="replace")[-2000:]
            raise CommandError(f"{command} ended with {process.returncode}:\n{text}")
        out.seek(0)
        said = _last_json(out.read().decode(errors="replace"))
    call = said.pop("call", None)
    return Sample(seconds, usage.ru_maxrss * 1024, call, said)


def _last_json(text: str) -> dict[str, Any]:
    lines = text.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        return {}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


REST = 4.0
"""Seconds before each run. A virtual machine may hand freed memory back to its host within two seconds or so; right
after a deletion, a copy finds the page cache's memory at hand, and whatever takes longer does not."""


def settle(folder: Path) -> None:
    """Removes the last result and waits for the disk and the memory, so that no run pays for another."""
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()
    time.sleep(REST)


def warm(folder: Path) -> None:
    """Reads all files of a folder into the page cache."""
    for path in folder.iterdir():
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def copy(source: Path, target: Path, *, durable: bool) -> Sample:
    """``cp`` of a folder; a durable one includes waiting for the disk, as our conversion does."""
    target.mkdir(parents=True)
    script = 'cp "$0"/* "$1"/' + (' && sync "$1"/*' if durable else "")
    return run(["sh", "-c", script, source, target])


def middle(samples: Sequence[Sample]) -> Sample:
    """The sample of medians."""
    calls = [sample.call for sample in samples if sample.call is not None]
    return Sample(
        statistics.median(sample.seconds for sample in samples),
        max(sample.peak for sample in samples),
        statistics.median(calls) if calls else None,
        samples[-1].said,
    )
