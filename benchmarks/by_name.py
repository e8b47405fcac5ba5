"""Exports tiny models of current architectures with ``equipoise export`` and runs ``equipoise run`` on the results.

    python benchmarks/by_name.py [--target T ...] [--again] [NAME ...]

Makes each model folder of ``fixtures/modern``, exports it as the command line does, with the validator's verdict over all
cases of the task, and compares the output of ``equipoise run`` on PyTorch with that on the program. Results go to
``benchmarks/results/by-name.json`` after each export; exports that have a result are skipped. ``docs/coverage.md`` is
written from the results.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coverage_page import write_page

from equipoise.convert.core.errors import EquipoiseError
from equipoise.convert.files.atomic import write_atomic
from equipoise.fixtures.modern.folder import all_recipes, make_folder
from equipoise.fixtures.modern.recipe import Recipe
from equipoise.validators.core.request import Request
from equipoise.validators.export.export import ExportRequest, ExportResult, export_model
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.pipeline import run_pipeline
from equipoise.validators.pipeline_io import to_json
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.tasks.base import find_task, load_samples

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "by-name.json"
TARGETS = ("stablehlo", "saved-model")
TIME_LIMIT_SECONDS = 600
"""Time limit for one worker call, such as one export attempt."""


def main() -> None:
    """Exports and validates the chosen folders that have no result yet, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names or tasks; default: all")
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--again", action="store_true", help="also exports that have a result")
    given = parser.parse_intermixed_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    available = all_recipes()
    chosen = {
        key: recipe
        for key, recipe in available.items()
        if not given.names or any(name in key for name in given.names)
    }
    for key, recipe in chosen.items():
        for target in given.target or TARGETS:
            if given.again or target not in results.get(key, {}).get("targets", {}):
                entry = results.setdefault(key, {"class": recipe.class_name, "targets": {}})
                entry["targets"][target] = _measure_export(recipe, target)
                print(key, target, entry["targets"][target], flush=True)
                write_atomic(RESULTS, json.dumps(results, indent=1, sort_keys=True) + "\n")
    write_page()


def _measure_export(recipe: Recipe, target: str) -> dict[str, Any]:
    """Returns the result of one export, made in worker processes of its own as for a user."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        WorkerPool(time_limit=TIME_LIMIT_SECONDS) as workers,
    ):
        folder, out = Path(scratch) / recipe.name, Path(scratch) / "out"
        make_folder(recipe, folder)
        request = Request(folder, task=recipe.task, divergence=False, threads=1)
        start = time.perf_counter()
        try:
            found = export_model(ExportRequest(request, out, target), workers)
        except EquipoiseError as error:
            return {"verdict": "no program", "why": " ".join(error.message.split())[:400]}
        return {
            **_export_figures(found),
            "whole": round(time.perf_counter() - start, 1),
            "answers": _compare_outputs(recipe, folder, out, workers),
        }


def _export_figures(found: ExportResult) -> dict[str, Any]:
    assert found.report is not None
    result = found.report.backends[0]
    passes = [second for case in result.cases for second in case.seconds]
    made = found.artifact.tried[-1]
    return {
        "verdict": found.report.verdict.value,
        "why": result.failure,
        "way": made.way,
        "seconds": round(made.seconds, 1),
        "first": round(passes[0], 2) if passes else None,
        "open": _dynamic_sizes(found.artifact.inputs),
        "cases": [case.case for case in result.cases],
        "notes": list(found.artifact.notes),
        "before": [f"{one.how}: {one.reason}" for one in found.artifact.tried if one.reason],
    }


def _dynamic_sizes(inputs: Mapping[str, Any]) -> list[str]:
    """Returns the names of the dynamic sizes."""
    shapes = [size for one in inputs.values() for size in one["shape"]]
    return list(dict.fromkeys(size for size in shapes if isinstance(size, str)))


def _compare_outputs(recipe: Recipe, folder: Path, out: Path, workers: WorkerPool) -> str:
    """Returns ``same`` if ``equipoise run`` has the same output for a sample on the program as on PyTorch, else ``other``."""
    samples = load_samples(find_task(recipe.task), ModelFolder(folder))[:1]
    one, other = (
        to_json(run_pipeline(recipe.task, place, samples, workers=workers))
        for place in (folder, out)
    )
    return "same" if outputs_match(one, other) else "other"


def outputs_match(one: Any, other: Any) -> bool:
    """Checks whether two outputs are equal, with a tolerance for floating-point numbers."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-5)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            outputs_match(one[key], other[key]) for key in one
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(outputs_match, one, other))
    return bool(one == other)


if __name__ == "__main__":
    main()
