"""Runs the jobs of a fleet that are not done, once each."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.hints import did_you_mean, install_hint
from equipoise.fleet.core.claims import Claims
from equipoise.fleet.core.jobs import Job, of_shard
from equipoise.fleet.core.statuses import STATUSES
from equipoise.fleet.core.store import ResultStore
from equipoise.fleet.executors import EXECUTORS
from equipoise.fleet.executors.base import Executor
from equipoise.fleet.running.job_runner import RunSettings


@dataclass(frozen=True)
class Fleet:
    """What to run, and where.

    Attributes:
        jobs: All jobs.
        settings: How a job is run, and where its result goes.
        executor: Name of the executor.
        workers: How many workers; 0: as many as there is room for.
        resources: What each worker needs.
        shard: Number and count of shards; None: all jobs.
        redo: Statuses whose jobs are done again.
    """

    jobs: Sequence[Job]
    settings: RunSettings
    executor: str = "local"
    workers: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    shard: tuple[int, int] | None = None
    redo: Collection[str] = ()


_POLL_SECONDS = 1.0
"""How often to look whether the jobs of other processes are done."""


def run_fleet(
    fleet: Fleet,
    tell: Callable[[dict[str, Any], int, int], None],
    tell_waiting: Callable[[int], None] = lambda count: None,
) -> dict[str, int]:
    """Runs the jobs that are not done; returns how many of the jobs have each status.

    Jobs that another process has claimed are waited for at the end, and run here where it is gone.

    Args:
        fleet: What to run.
        tell: Called with each result, the number of jobs that have ended, and how many there are to do.
        tell_waiting: Called with the number of jobs of other processes when nothing else is left to begin.

    Raises:
        InputError: There is no such executor, or it cannot run here.
    """
    executor = find_executor(fleet.executor)
    store = ResultStore.create(fleet.settings.store)
    store.add_jobs(fleet.jobs)
    jobs = of_shard(fleet.jobs, fleet.shard)
    if fleet.redo:
        again = {one["key"] for one in store.summaries() if one["status"] in fleet.redo}
        store.forget(job.key for job in jobs if job.key in again)
    done = store.done_keys()
    left = [job for job in jobs if job.key not in done]
    count, number = len(left), 0
    with Claims(store.folder / "claims") as claims:
        while left:
            running = executor.run(
                _claimed(left, store, claims), fleet.settings, fleet.workers, fleet.resources
            )
            with closing(running) as ended:
                for result in ended:
                    number += 1
                    claims.give_up(result["key"])
                    tell(result, number, count)
            done = store.done_keys()
            others = [job for job in left if job.key not in done]
            left = _wait_for_others(others, store, claims, tell_waiting)
    own = {job.key for job in jobs}
    found = [one["status"] for one in store.summaries() if one["key"] in own]
    return {status: found.count(status) for status in STATUSES}


def find_executor(name: str) -> Executor:
    """Returns an executor by its name.

    Raises:
        InputError: There is none, or a package that it needs is not installed.
    """
    if name not in EXECUTORS.names():
        known = EXECUTORS.names()
        raise InputError(
            "no such executor",
            found=name,
            expected=", ".join(known),
            hint=did_you_mean(name, known),
        )
    executor: Executor = EXECUTORS.load(name)
    if missing := [one for one in executor.needs if find_spec(one) is None]:
        raise InputError(
            f"the executor {name!r} needs {', '.join(missing)}", hint=install_hint(name)
        )
    return executor


def _claimed(jobs: Sequence[Job], store: ResultStore, claims: Claims) -> Iterator[Job]:
    """Yields those jobs that no other process has or did, when they are asked for."""
    for job in jobs:
        if claims.take(job.key):
            if store.is_done(job.key):
                claims.give_up(job.key)
            else:
                yield job


def _wait_for_others(
    jobs: Sequence[Job], store: ResultStore, claims: Claims, tell_waiting: Callable[[int], None]
) -> list[Job]:
    """Waits until each job is done, or its claim is that of a process that is gone; returns those that are free then."""
    is_told = False
    while left := [job for job in jobs if not store.is_done(job.key)]:
        free = [job for job in left if claims.take(job.key)]
        for job in free:
            claims.give_up(job.key)
        if free:
            return free
        if not is_told:
            tell_waiting(len(left))
            is_told = True
        time.sleep(_POLL_SECONDS)
    return []
