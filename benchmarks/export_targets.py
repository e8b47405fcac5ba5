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


def read_pairs(target: str) -> dict[str, Any]:
    """Returns the results of a target so far: pair of model type and task -> result."""
    path = TARGETS[target].results
    found: dict[str, Any] = json.loads(path.read_text())["pairs"] if path.exists() else {}
    return found


def write_pairs(target: str, pairs: dict[str, Any]) -> None:
    """Writes the results of a target."""
    text = json.dumps({"pairs": pairs}, indent=1, sort_keys=True) + "\n"
    write_atomic(TARGETS[target].results, text)
