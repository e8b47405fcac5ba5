"""Defines the targets whose coverage is measured: how their programs are run, and where the results are stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.convert.files.atomic import write_atomic

HERE = Path(__file__).parent


@dataclass(frozen=True)
class CoverageTarget:
    """A target whose coverage is measured.

    Attributes:
        results: The results file.
        run: Name of the function of ``export_worker.py`` that runs a program.
        kinds: Names of the runs that the function makes of each program.
    """

    results: Path
    run: str
    kinds: tuple[str, ...]


TARGETS = {
    "onnx": CoverageTarget(
        HERE / "results" / "export-coverage.json",
        "run_onnx",
        ("optimized", "plain"),
    ),
    "stablehlo": CoverageTarget(
        HERE / "results" / "jax-coverage.json",
        "run_stablehlo",
        ("program",),
    ),
    "saved-model": CoverageTarget(
        HERE / "results" / "saved-model-coverage.json",
        "run_saved_model",
        ("program",),
    ),
}


class ResultStore:
    """The results of one target so far, merged over all parts; each part writes a file of its own.

    Args:
        target: The target.
        part: Number of this part, from 1.
        parts: Number of parts; with 1, the files of earlier parts are merged into one.
    """

    def __init__(self, target: str, part: int, parts: int) -> None:
        merged_file = TARGETS[target].results
        others = sorted(merged_file.parent.glob(f"{merged_file.stem}.part-*.json"))
        self.pairs: dict[str, Any] = {}
        for path in (merged_file, *others):
            self.pairs.update(json.loads(path.read_text())["pairs"] if path.exists() else {})
        self.path = merged_file if parts == 1 else merged_file.with_suffix(f".part-{part}.json")
        self.own = self.pairs if parts == 1 else {}
        self.merged = others if parts == 1 else []

    def add(self, key: str, found: dict[str, Any]) -> None:
        """Adds one result and writes the file."""
        self.pairs[key] = self.own[key] = found
        self._write()

    def save(self) -> None:
        """Writes all results and removes the files of the parts that were merged."""
        self._write()
        for path in self.merged:
            path.unlink(missing_ok=True)

    def _write(self) -> None:
        self.path.parent.mkdir(exist_ok=True)
        write_atomic(self.path, json.dumps({"pairs": self.own}, indent=1, sort_keys=True) + "\n")
