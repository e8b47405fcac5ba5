"""Reads the results of a fleet into the rows of its report, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.fleet.core.statuses import STATUSES
from equipoise.fleet.core.store import ResultStore

LEFT = "left"
"""The status of a job that has no result."""
WORST_FIRST = (*reversed(STATUSES[1:]), LEFT, STATUSES[0])


@dataclass(frozen=True)
class Row:
    """The row of one job.

    Attributes:
        key: The job's key.
        source: What the command was run on.
        status: ``ok``, ``difference``, ``refused``, ``failed``, or ``left``.
        verdict: The verdict, or what the command wrote.
        kind: Task, target or layout.
        model_type: The model's type.
        backends: Backend -> verdict.
        problem: First line of the error.
        seconds: Time of the job.
        link: Path of the detailed report, relative to the working directory; empty if there is none.
    """

    key: str
    source: str
    status: str
    verdict: str = ""
    kind: str = ""
    model_type: str = ""
    backends: Mapping[str, str] | None = None
    problem: str = ""
    seconds: float = 0.0
    link: str = ""


def read_results(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Returns the results of all jobs that are done, by source; of a job in several folders that of the first.

    Raises:
        InputError: A folder holds no results of a fleet.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        store = ResultStore.open(folder)
        for key in store.done_keys() - set(found):
            found[key] = store.read(key)
    return sorted(found.values(), key=lambda one: (one["source"], one["key"]))


def read_rows(folders: Sequence[Path]) -> list[Row]:
    """Returns a row for each job, done or not, the worst first.

    Raises:
        InputError: A folder holds no results of a fleet.
    """
    rows: dict[str, Row] = {}
    for folder in folders:
        store = ResultStore.open(folder)
        done = store.done_keys()
        for key, job in store.jobs():
            if key in done:
                rows[key] = _row(folder, store.read(key))
            else:
                rows.setdefault(key, Row(key, job.source, LEFT))
    order = {status: index for index, status in enumerate(WORST_FIRST)}
    return sorted(rows.values(), key=lambda row: (order[row.status], row.source, row.key))


def _row(folder: Path, result: Mapping[str, Any]) -> Row:
    summary, error = result["summary"], result["error"] or {}
    kind = summary.get("task") or summary.get("layout") or ""
    if target := summary.get("target"):
        kind = f"{kind}, {target}".removeprefix(", ")
    return Row(
        result["key"],
        result["source"],
        result["status"],
        str(summary.get("verdict") or ""),
        kind,
        str(summary.get("model_type") or ""),
        summary.get("backends"),
        str(error.get("message") or "").partition("\n")[0],
        float(result["run"]["seconds"]),
        _link(folder, result),
    )


def _link(folder: Path, result: Mapping[str, Any]) -> str:
    """Returns the path of what tells more: the report, the artifact's page, or the manifest."""
    if result["output"] is None:
        return ""
    output = folder / result["output"]
    names = ("report.json", "README.md", "equipoise.json")
    return next((str(output / name) for name in names if (output / name).is_file()), str(output))
