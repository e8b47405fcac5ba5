"""The process of a fleet's worker: ``python -m equipoise.cli._fleet_worker``; one line of JSON in, one out."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equipoise.validators.runtime.process import WorkerPool

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"
_MOST_STDERR = 4000


def main() -> None:
    """Answers requests until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory-mb", type=int)
    parser.add_argument("--cores")
    given = parser.parse_args()
    _limit_memory(given.memory_mb)
    if given.cores:
        os.sched_setaffinity(0, [int(one) for one in given.cores.split(",")])
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # a library that asks gets no answer
    os.dup2(2, 1)  # what libraries print is no answer
    with ExitStack() as stack:
        pools: list[WorkerPool] = []
        for line in requests:
            replies.write(json.dumps(_answer(json.loads(line)["arguments"], pools, stack)) + "\n")
            replies.flush()


def _answer(arguments: list[str], pools: list[WorkerPool], stack: ExitStack) -> dict[str, Any]:
    """Runs a command line in this process; the processes of backends stay warm for the next."""
    from equipoise.cli.main import run

    if not pools and arguments[0] != "convert":
        from equipoise.validators.runtime.process import WorkerPool

        pools.append(stack.enter_context(WorkerPool()))
    stdout, stderr = io.StringIO(), io.StringIO()
    with suppress(OSError):
        _CLEAR.write_text(_FORGET_PEAK)
    begin = time.monotonic()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        code = run(arguments, pool=pools[0] if pools else None)
    return {
        "exit_code": code,
        "stdout": stdout.getvalue(),
        "stderr": stderr.getvalue()[-_MOST_STDERR:],
        "seconds": time.monotonic() - begin,
        "peak_bytes": _peak_bytes(),
    }


def _peak_bytes() -> int | None:
    """Returns the most memory that this process held since the last request."""
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def _limit_memory(megabytes: int | None) -> None:
    if megabytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


if __name__ == "__main__":
    main()
    sys.stderr.flush()
