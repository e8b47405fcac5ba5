"""Runs jobs in processes of this machine, within its cores and GPUs."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.fleet.core.jobs import Job
from equipoise.fleet.running.fetching import Fetcher
from equipoise.fleet.running.job_runner import JobRunner, RunSettings
from equipoise.fleet.running.worker_process import Limits

_KNOWN = ("cpu", "gpu")
_END_SECONDS = 5.0
"""How long workers may take to end after they were stopped."""


class LocalExecutor:
    """A thread and a warm worker process for each place."""

    needs: tuple[str, ...] = ()

    def run(
        self,
        jobs: Iterable[Job],
        settings: RunSettings,
        workers: int,
        resources: Mapping[str, float],
    ) -> Generator[dict[str, Any]]:
        """Yields the results of all jobs as they end.

        Raises:
            InputError: A worker needs more than there is.
        """
        places = _places(settings, workers, resources)
        waiting, lock = iter(jobs), threading.Lock()
        fetcher = Fetcher(settings.fetch)
        ended: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue()
        stop = threading.Event()
        runners: list[JobRunner] = []

        def next_job() -> Job | None:
            with lock:
                return None if stop.is_set() else next(waiting, None)

        def work(place: RunSettings) -> None:
            try:
                with closing(JobRunner(place, fetcher)) as runner:
                    runners.append(runner)
                    job = next_job()
                    while job is not None:
                        # A local source needs no time ahead, and a job that is taken early keeps another worker waiting.
                        upcoming = next_job() if fetcher.is_remote(job) else None
                        ended.put(runner.run(job, upcoming))
                        job = upcoming or next_job()
            except BaseException as error:  # noqa: BLE001 - it is raised where the results are read
                ended.put(error)
            ended.put(None)

        threads = [threading.Thread(target=work, args=(one,), daemon=True) for one in places]
        for thread in threads:
            thread.start()
        left = len(threads)
        try:
            while left:
                found = ended.get()
                if isinstance(found, BaseException):
                    raise found
                if found is None:
                    left -= 1
                else:
                    yield found
        finally:
            stop.set()
            if left:  # interrupted: what runs has no result
                for runner in runners:
                    runner.stop()
                end = time.monotonic() + _END_SECONDS
                for thread in threads:
                    thread.join(max(0.0, end - time.monotonic()))


def _places(
    settings: RunSettings, workers: int, resources: Mapping[str, float]
) -> list[RunSettings]:
    """Returns the settings of each worker: its cores, and the GPUs that it sees."""
    if unknown := sorted(set(resources) - set(_KNOWN)):
        raise InputError(
            "the executor 'local' knows no such resource",
            found=", ".join(unknown),
            expected=", ".join(_KNOWN),
        )
    cores = sorted(os.sched_getaffinity(0))
    each, gpus = resources.get("cpu", 1), int(resources.get("gpu", 0))
    if each > len(cores):
        raise InputError(
            "a worker needs more cores than there are", found=str(len(cores)), expected=f"{each:g}"
        )
    visible = _gpus() if gpus else []
    count = workers or max(1, int(len(cores) // each))
    if gpus and not workers:
        count = max(1, min(count, len(visible) // gpus))
    if len(visible) < gpus * count:
        raise InputError(
            f"{count} workers with {gpus} GPUs each need more than there are",
            found=str(len(visible)),
            expected=str(gpus * count),
            hint="fewer --workers",
        )
    return [
        replace(settings, limits=_limits(settings.limits, index, count, cores, visible, gpus))
        for index in range(count)
    ]


def _limits(
    limits: Limits, index: int, count: int, cores: list[int], visible: list[str], gpus: int
) -> Limits:
    """Returns the limits of one of ``count`` workers: its part of the cores, where there is one for each, and its GPUs."""
    own = tuple(cores[index * len(cores) // count : (index + 1) * len(cores) // count])
    devices = ",".join(visible[index * gpus : (index + 1) * gpus])
    environment = dict(limits.environment or {})
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = devices
    return replace(limits, cores=own, environment=environment or None)


def _gpus() -> list[str]:
    """Returns the numbers of the GPUs that this process may use."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [one for one in given.split(",") if one]
    try:
        names = os.listdir("/proc/driver/nvidia/gpus")
    except OSError:
        return []
    return [str(index) for index in range(len(names))]


EXECUTOR = LocalExecutor()
