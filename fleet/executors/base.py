"""What an executor is: it runs jobs somewhere, several at once."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any, Protocol

from equipoise.fleet.core.jobs import Job
from equipoise.fleet.running.job_runner import RunSettings


class Executor(Protocol):
    """Runs jobs.

    An executor makes a :class:`~equipoise.fleet.running.job_runner.JobRunner` for each of its workers, which runs one job after another and
    writes every result itself: what an executor yields is for progress alone.

    Attributes:
        needs: Modules that must be installed.
    """

    needs: tuple[str, ...]

    def run(
        self,
        jobs: Iterable[Job],
        settings: RunSettings,
        workers: int,
        resources: Mapping[str, float],
    ) -> Generator[dict[str, Any]]:
        """Yields the results of all jobs as they end, in any order; closed before its end, it interrupts those that run.

        Args:
            jobs: The jobs; taken one by one, when a worker is free.
            settings: How a job is run.
            workers: How many workers; 0: as many as there is room for.
            resources: What each worker needs, e.g. ``{"gpu": 1, "cpu": 4}``.
        """
        ...
