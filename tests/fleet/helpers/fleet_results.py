"""Reads the results of fleets."""

from __future__ import annotations

import json
from pathlib import Path


def repeatable_results(folder: Path) -> list[str]:
    """Returns all results, sorted, without what differs from run to run."""
    found = []
    for path in folder.glob("results/*/*.json"):
        values = json.loads(path.read_text())
        del values["run"]
        found.append(json.dumps(values, sort_keys=True))
    return sorted(found)
