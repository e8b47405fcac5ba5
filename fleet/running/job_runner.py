"""Runs jobs on one warm worker, again where it dies, and writes their results."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.convert.checkpoints.hub import is_transient
from equipoise.convert.core.errors import EquipoiseError
from equipoise.fleet.core.jobs import Job
from equipoise.fleet.core.statuses import Status
from equipoise.fleet.core.store import ResultStore
from equipoise.fleet.running.fetching import Fetcher, FetchSettings
from equipoise.fleet.running.outcomes import (
    command_line,
    death,
    result_of,
    result_of_error,
)
from equipoise.fleet.running.worker_process import (
    WORKER,
    Limits,
    WorkerDiedError,
    WorkerProcess,
)


@dataclass(frozen=True)
class RunSettings:
    """How the jobs of a fleet are run; it is sent to the machines that do.

    Attributes:
        store: The folder of the results, under the same path on each machine.
        retries: How often a job is begun again after its worker died.
        limits: What each worker may use.
        fetch: Where sources on the Hub are downloaded to.
        worker: The module of the worker processes, or the path of a script that ends in ``.py``: what it knows are the commands
            of the jobs. It calls :func:`equipoise.fleet.running.worker_loop.serve`.
        tell: Called with a job and a description of each of its steps, in the process that makes the :class:`JobRunner`.
    """

    store: Path
    retries: int = 2
    limits: Limits = field(default_factory=Limits)
    fetch: FetchSettings = field(default_factory=FetchSettings)
    worker: str = WORKER
    tell: Callable[[Job, str], None] | None = None


class JobRunner:
    """Runs one job after another.

    Args:
        settings: How.
        fetcher: Fetches sources; the runners of one process share it.
    """

    def __init__(self, settings: RunSettings, fetcher: Fetcher | None = None) -> None:
        self._settings = settings
        self._store = ResultStore.open(settings.store)
        self._worker = WorkerProcess(settings.limits, settings.worker)
        self._fetcher = fetcher or Fetcher(settings.fetch)
        self._threads = ThreadPoolExecutor(1)
        self._ahead: tuple[Job, Future[str]] | None = None

    def close(self) -> None:
        """Ends the worker."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._worker.close()

    def stop(self) -> None:
        """Interrupts what another thread runs; it has no result then."""
        self._worker.stop()

    def fetch_ahead(self, job: Job) -> None:
        """Begins to fetch the source of the job that is run next."""
        self._ahead = job, self._threads.submit(self._fetcher.fetch, job)

    def run(self, job: Job, upcoming: Job | None = None) -> dict[str, Any]:
        """Runs a job and writes its result; returns it.

        Args:
            job: The job.
            upcoming: The job after it, whose source is fetched meanwhile.
        """
        begin = time.monotonic()
        if self._ahead is None or self._ahead[0] is not job:
            self.fetch_ahead(job)
        assert self._ahead is not None
        fetched = self._ahead[1]
        try:
            source = fetched.result()
        except EquipoiseError as error:
            status: Status = "failed" if is_transient(error) else "refused"
            seconds = time.monotonic() - begin
            result = result_of_error(job, status, error.as_dict(), seconds, 1)
        else:
            if upcoming is not None:
                self.fetch_ahead(upcoming)
            result = self._run(job, source, begin)
        self._store.write(result)
        self._fetcher.release(job)
        return result

    def _run(self, job: Job, source: str, begin: float) -> dict[str, Any]:
        """Runs a job whose source is here.

        A job that takes longer than the time limit is not begun again: it would again.
        """
        output = self._store.output_path(job)
        attempts = 0
        report = self._settings.tell
        tell = (lambda text: report(job, text)) if report is not None else (lambda text: None)
        while True:
            attempts += 1
            try:
                reply = self._worker.run(command_line(job, source, output), tell)
                return result_of(job, output, self._store.folder, reply, attempts)
            except WorkerDiedError as dead:
                if attempts > self._settings.retries or dead.cause.startswith("time limit"):
                    error = death(dead.cause, dead.last_words)
                    seconds = time.monotonic() - begin
                    return result_of_error(job, "failed", error, seconds, attempts)
