"""The loop of a worker: one line of JSON in, one out; any program that calls :func:`serve` is a worker of a fleet."""

from __future__ import annotations

import argparse
import io
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO, TypeAlias

Tell: TypeAlias = Callable[[str], None]
"""Called with a description of each step."""
RunCommand: TypeAlias = Callable[[list[str], Tell], int]
"""Runs a command line: prints one JSON document on stdout, returns the exit code."""

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"
_MOST_STDERR = 4000
_GRACE_SECONDS = 5.0
"""How long a command may take to end after its driver has."""


def serve(run: RunCommand) -> None:
    """Answers requests until standard input ends; a command whose driver was killed is interrupted.

    Args:
        run: Runs a command line, such as ``["convert", SOURCE, OUTPUT, "--to", "flax"]``. It prints a JSON object, which becomes the
            job's summary where the command is not one of Equipoise's, and returns an exit code: 0 ok, 1 a difference, 2 refused,
            else failed.
    """
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
    signal.signal(signal.SIGINT, signal.default_int_handler)
    busy = threading.Event()
    threading.Thread(target=_end_with_driver, args=(requests.fileno(), busy), daemon=True).start()
    with suppress(KeyboardInterrupt, BrokenPipeError):
        for line in requests:
            busy.set()
            _send(replies, _answer(run, json.loads(line)["arguments"], replies))
            busy.clear()
    sys.stderr.flush()


def _answer(run: RunCommand, arguments: list[str], replies: TextIO) -> dict[str, Any]:
    """Runs a command line in this process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with suppress(OSError):
        _CLEAR.write_text(_FORGET_PEAK)
    begin = time.monotonic()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        code = run(arguments, lambda text: _send(replies, {"progress": text}))
    return {
        "exit_code": code,
        "stdout": stdout.getvalue(),
        "stderr": stderr.getvalue()[-_MOST_STDERR:],
        "seconds": time.monotonic() - begin,
        "peak_bytes": _peak_bytes(),
    }


def _send(replies: TextIO, values: dict[str, Any]) -> None:
    replies.write(json.dumps(values) + "\n")
    replies.flush()


def _end_with_driver(requests: int, busy: threading.Event) -> None:
    """Waits until nobody can send requests any more, and interrupts the command that runs then; ends the process where that is not enough."""
    poll = select.poll()
    poll.register(requests, select.POLLHUP)
    while not any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll()):
        pass
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(_GRACE_SECONDS)
        os.killpg(os.getpgrp(), signal.SIGKILL)


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
