"""Runs jobs on a cluster of Ray: the one that ``RAY_ADDRESS`` names, or one that is started on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.fleet.core.jobs import Job
from equipoise.fleet.core.store import ResultStore
from equipoise.fleet.running.job_runner import JobRunner, RunSettings
from equipoise.fleet.running.outcomes import death, result_of_error

_CONNECT_SECONDS = 10.0
_RESERVED = ("cpu", "gpu", "memory")
"""Resources that Ray has names of its own for; memory is in bytes."""


class RayWorker:
    """An actor: one warm worker process beside it; only jobs and short results pass through Ray."""

    def __init__(self, settings: RunSettings) -> None:
        self._runner = JobRunner(settings)

    def run(self, job: Job) -> dict[str, Any]:
        """Runs a job and writes its result."""
        return self._runner.run(job)

    def close(self) -> None:
        """Ends the worker process."""
        self._runner.close()


class RayExecutor:
    """An actor of Ray for each worker, wherever the cluster has room for it."""

    needs: tuple[str, ...] = ("ray",)

    def run(
        self,
        jobs: Iterable[Job],
        settings: RunSettings,
        workers: int,
        resources: Mapping[str, float],
    ) -> Generator[dict[str, Any]]:
        """Yields the results of all jobs as they end.

        Raises:
            InputError: The cluster has no room for one worker, or cannot be reached.
        """
        import ray

        owns_connection = not ray.is_initialized()
        if owns_connection:
            _connect(ray)
        try:
            count = workers or _room(ray.cluster_resources(), resources)
            remote = replace(settings, tell=None)
            yield from _Actors(ray, remote, count, resources).run(iter(jobs))
        finally:
            if owns_connection:
                ray.shutdown()


class _Actors:
    """The actors of one run; one that is lost with its machine is replaced, and its job begun again."""

    def __init__(
        self, ray: Any, settings: RunSettings, count: int, resources: Mapping[str, float]
    ) -> None:
        self._ray = ray
        self._settings = settings
        self._count = count
        self._class = ray.remote(RayWorker).options(**_ray_options(resources))
        self._losses: dict[str, int] = {}

    def run(self, jobs: Iterator[Job]) -> Iterator[dict[str, Any]]:
        running: dict[Any, tuple[Any, Job]] = {}
        for _ in range(self._count):
            self._begin(running, self._class.remote(self._settings), next(jobs, None))
        while running:
            (ready,), _ = self._ray.wait(list(running), num_returns=1)
            actor, job = running.pop(ready)
            try:
                yield self._ray.get(ready)
            except self._ray.exceptions.RayActorError as error:
                actor = self._class.remote(self._settings)
                if (result := self._lost(job, error)) is None:
                    self._begin(running, actor, job)
                    continue
                yield result
            self._begin(running, actor, next(jobs, None))

    def _begin(self, running: dict[Any, tuple[Any, Job]], actor: Any, job: Job | None) -> None:
        if job is None:
            actor.close.remote()
        else:
            running[actor.run.remote(job)] = (actor, job)

    def _lost(self, job: Job, error: Exception) -> dict[str, Any] | None:
        """Notes that an actor was lost; returns the result of its job where that happened too often."""
        losses = self._losses[job.key] = self._losses.get(job.key, 0) + 1
        if losses <= self._settings.retries:
            return None
        words = str(error).strip()
        result = result_of_error(job, "failed", death("its machine was lost", words), 0.0, losses)
        ResultStore.open(self._settings.store).write(result)
        return result


def _connect(ray: Any) -> None:
    """Connects to the cluster that ``RAY_ADDRESS`` names, or starts one.

    Raises:
        InputError: Nothing answers at the address; Ray itself would try for minutes and end the process.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not address:
        ray.init(address="local", include_dashboard=False, **quiet)
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdecimal():
            socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
        ray.init(address=address, **quiet)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the cluster of Ray cannot be reached: {error}",
            found=f"RAY_ADDRESS={address}",
            hint="`ray start --head` prints the address",
        ) from error


def _room(cluster: Mapping[str, float], resources: Mapping[str, float]) -> int:
    """Returns how many workers the cluster has room for.

    Raises:
        InputError: Not for one.
    """
    names = {"cpu": "CPU", "gpu": "GPU"}
    each = {"cpu": 1.0, **resources}
    room = min(
        int(cluster.get(names.get(name, name), 0) // amount)
        for name, amount in each.items()
        if amount > 0
    )
    if room < 1:
        raise InputError(
            "the cluster has no room for one worker",
            found=", ".join(f"{name}={value:g}" for name, value in sorted(cluster.items())),
            expected=", ".join(f"{name}={value:g}" for name, value in each.items()),
        )
    return room


def _ray_options(resources: Mapping[str, float]) -> dict[str, Any]:
    """Returns resources as options of a Ray actor.

    >>> _ray_options({"cpu": 2, "gpu": 1, "fast_disk": 1})
    {'num_cpus': 2, 'num_gpus': 1, 'resources': {'fast_disk': 1}}
    """
    options: dict[str, Any] = {
        "num_cpus": resources.get("cpu", 1),
        "num_gpus": resources.get("gpu", 0),
    }
    if "memory" in resources:
        options["memory"] = resources["memory"]
    own = {name: value for name, value in resources.items() if name not in _RESERVED}
    return {**options, "resources": own} if own else options


EXECUTOR = RayExecutor()
