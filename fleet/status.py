"""Counts what is done, what failed and what is left, and estimates how long the rest takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from equipoise.fleet.core.statuses import STATUSES
from equipoise.fleet.core.store import ResultStore

RECENT_RESULTS = 200
"""How many of the last results tell the pace."""


@dataclass(frozen=True)
class FleetStatus:
    """How far a fleet is.

    Attributes:
        jobs: Number of jobs.
        done: Status -> number of jobs that are done with it.
        running: Number of claimed jobs that are not done.
        seconds_left: Estimate for the rest at the pace of the last results; None before there is one.
    """

    jobs: int
    done: Mapping[str, int]
    running: int
    seconds_left: float | None

    @property
    def left(self) -> int:
        """Number of jobs that are not done."""
        return self.jobs - sum(self.done.values())

    def as_dict(self) -> dict[str, object]:
        """Returns the status as JSON has it."""
        return {
            "jobs": self.jobs,
            "done": dict(self.done),
            "left": self.left,
            "running": self.running,
            "seconds_left": self.seconds_left,
        }


def fleet_status(folders: Sequence[Path]) -> FleetStatus:
    """Returns the status of a fleet whose results lie in one folder or several, e.g. one a shard.

    Raises:
        InputError: A folder holds no results of a fleet.
    """
    keys: set[str] = set()
    found: dict[str, tuple[str, float]] = {}
    claimed: set[str] = set()
    for folder in folders:
        store = ResultStore.open(folder)
        keys.update(store.job_keys())
        for one in store.summaries():
            found[one["key"]] = (one["status"], one["finished"])
        claimed.update(path.name for path in (folder / "claims").iterdir())
    statuses = [status for key, (status, _) in found.items() if key in keys]
    left = len(keys) - len(statuses)
    times = sorted(time for _, time in found.values())[-RECENT_RESULTS:]
    pace = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else None
    return FleetStatus(
        len(keys),
        {status: statuses.count(status) for status in STATUSES},
        len((claimed & keys) - set(found)),
        None if pace is None else round(left * pace, 1),
    )
