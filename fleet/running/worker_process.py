"""A warm process that runs one command line after another, and what became of it when it dies."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from equipoise.fleet.running.worker_loop import Tell

WORKER = "equipoise.cli._fleet_worker"
"""The module that is run as the process where no other is named: it runs the commands of Equipoise."""

_LAST_BYTES = 4000
_BLOCK_BYTES = 1 << 16
_GRACE_SECONDS = 3.0
"""How long a process may take to end after it was interrupted."""


@dataclass(frozen=True)
class Limits:
    """What a worker may use.

    Attributes:
        seconds: Longest time of one job; None sets no limit.
        memory_mb: Largest address space of the process in MB; None sets no limit.
        cores: Numbers of the cores that it may use; empty for all.
        environment: Further variables, e.g. ``CUDA_VISIBLE_DEVICES``.
        jobs: Number of jobs after which the process is started anew, where what it runs keeps memory; None: never.
    """

    seconds: float | None = None
    memory_mb: int | None = None
    cores: tuple[int, ...] = ()
    environment: Mapping[str, str] | None = None
    jobs: int | None = None


class WorkerDiedError(Exception):
    """The process ended, or was ended, before it answered.

    Attributes:
        cause: How: ``signal 9``, ``exit code 1``, ``time limit``.
        last_words: The end of what it wrote on stderr.
    """

    def __init__(self, cause: str, last_words: str) -> None:
        super().__init__(f"{cause}: {last_words}")
        self.cause = cause
        self.last_words = last_words


class WorkerStoppedError(Exception):
    """The process was ended by :meth:`WorkerProcess.stop`: what it ran has no result."""


class WorkerProcess:
    """One process, started when it is first needed and again after it died.

    Args:
        limits: What it may use.
        program: The module that is run, or the path of a script that ends in ``.py``; it calls
            :func:`equipoise.fleet.running.worker_loop.serve`.
    """

    def __init__(self, limits: Limits, program: str = WORKER) -> None:
        self._limits = limits
        self._program = program
        self._jobs = 0
        self._is_stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._rest = b""

    def close(self) -> None:
        """Ends the process."""
        self._end()
        self._log.close()

    def stop(self) -> None:
        """Interrupts the process, which another thread may wait for, and ends it where that is not enough."""
        self._is_stopped = True
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE_SECONDS)
        self._kill_group(process)

    def run(self, arguments: Sequence[str], tell: Tell = lambda text: None) -> dict[str, Any]:
        """Runs a command line; returns its ``exit_code``, ``stdout``, ``stderr``, ``seconds`` and ``peak_bytes``.

        Args:
            arguments: The command line.
            tell: Called with what the process says about its progress.

        Raises:
            WorkerDiedError: The process died, or took longer than the limit.
            WorkerStoppedError: It was stopped.
        """
        found = self._request(arguments, tell)
        self._jobs += 1
        if self._jobs == self._limits.jobs:
            self._end()
        return found

    def _request(self, arguments: Sequence[str], tell: Tell) -> dict[str, Any]:
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"arguments": list(arguments)}).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            raise self._death("") from None
        found: dict[str, Any] = {"progress": ""}
        end = None if self._limits.seconds is None else time.monotonic() + self._limits.seconds
        while "progress" in found:
            line = self._read_line(process, end)
            if line is None:
                self._kill()
                raise self._death(f"time limit of {self._limits.seconds:g} s")
            if not line or self._is_stopped:
                raise self._death("")
            found = json.loads(line)
            if "progress" in found:
                tell(found["progress"])
        return found

    def _start(self) -> subprocess.Popen[bytes]:
        if self._is_stopped:
            raise WorkerStoppedError
        self._jobs = 0
        self._log.seek(0)
        self._log.truncate()
        self._rest = b""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(self._limits.environment or {})}
        program = [self._program] if self._program.endswith(".py") else ["-m", self._program]
        command = [sys.executable, *program]
        if cores := self._limits.cores:
            names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
            environment.update(dict.fromkeys(names, str(len(cores))))
            command += ["--cores", ",".join(map(str, cores))]
        if self._limits.memory_mb is not None:
            command += ["--memory-mb", str(self._limits.memory_mb)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            start_new_session=True,
        )
        return self._process

    def _read_line(self, process: subprocess.Popen[bytes], end: float | None) -> bytes | None:
        """Returns the process's next line; empty where it ended, None where the time is over."""
        assert process.stdout is not None
        number = process.stdout.fileno()
        while b"\n" not in self._rest:
            left = None if end is None else max(0.0, end - time.monotonic())
            ready, _, _ = select.select([number], [], [], left)
            if not ready:
                return None
            block = os.read(number, _BLOCK_BYTES)
            if not block:
                return b""
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _death(self, cause: str) -> Exception:
        code = self._end()
        if self._is_stopped:
            return WorkerStoppedError()
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _LAST_BYTES))
        words = self._log.read().decode("utf-8", "replace").strip()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return WorkerDiedError(cause or how, words)

    def _end(self) -> int:
        """Ends the process and those that it started; returns its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()
        try:
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._kill_group(process)
            code = process.wait()
        self._kill_group(process)
        return code

    def _kill(self) -> None:
        if self._process is not None:
            self._kill_group(self._process)

    @staticmethod
    def _kill_group(process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
