"""Runs jobs on one warm worker, again where it dies, and writes their results."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from equipoise.fleet.core.jobs import Job
from equipoise.fleet.core.store import ResultStore
from equipoise.fleet.running.outcomes import command_line, result_of, result_of_death
from equipoise.fleet.running.worker_process import Limits, WorkerDiedError, WorkerProcess


@dataclass(frozen=True)
class RunSettings:
    """How the jobs of a fleet are run; it is sent to the machines that do.

    Attributes:
        store: The folder of the results, under the same path on each machine.
        retries: How often a job is begun again after its worker died.
        limits: What each worker may use.
    """

    store: Path
    retries: int = 2
    limits: Limits = field(default_factory=Limits)


class JobRunner:
    """Runs one job after another; a context manager that ends the worker.

    Args:
        settings: How.
    """

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings
        self._store = ResultStore.open(settings.store)
        self._worker = WorkerProcess(settings.limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker."""
        self._worker.close()

    def run(self, job: Job) -> dict[str, Any]:
        """Runs a job and writes its result; returns it.

        A job that takes longer than the time limit is not begun again: it would again.
        """
        output = self._store.output_path(job)
        begin = time.monotonic()
        attempts = 0
        while True:
            attempts += 1
            try:
                reply = self._worker.run(command_line(job, output))
                result = result_of(job, output, self._store.folder, reply, attempts)
                break
            except WorkerDiedError as death:
                if attempts > self._settings.retries or death.cause.startswith("time limit"):
                    seconds = time.monotonic() - begin
                    result = result_of_death(job, death.cause, death.last_words, seconds, attempts)
                    break
        self._store.write(result)
        return result
