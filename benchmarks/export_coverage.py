"""Measures which model types of transformers can be exported and validated, each as a tiny random model.

    python benchmarks/export_coverage.py CONFIGS [--target T ...] [--heads] [--again] [--workers N] [--shard 1/2] [TYPE ...]

CONFIGS is a JSON file with ``types``: for each model type its class, the shapes of its inputs and a small config;
``benchmarks/export_configs.json`` is one for transformers 5.23. A job is a model type with its heads; the model is built once for
all targets. Pairs that have a result in ``benchmarks/results`` are skipped. At the end the results go there, and
``docs/coverage.md`` is written from them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from coverage_page import is_judged, write_page
from export_targets import TARGETS, read_pairs, write_pairs
from export_tasks import list_pairs
from measurement_jobs import add_options, describe_error, finished_jobs, make_job

from equipoise.fleet.core.store import Result
from equipoise.fleet.running.worker_process import Limits

HERE = Path(__file__).parent
JOBS_PER_WORKER = 10
"""Number of model types after which a worker is started anew: tracers keep much of what they traced in memory, and slow down."""


def main() -> None:
    """Exports and validates the models that have no result yet, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", type=Path)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--heads", action="store_true", help="also the heads of tasks")
    parser.add_argument("--again", action="store_true", help="also pairs without a passing program")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="default: onnx")
    add_options(parser)
    given = parser.parse_intermixed_args()
    types = json.loads(given.configs.read_text())["types"]
    pairs = {target: read_pairs(target) for target in given.target or ["onnx"]}
    wanted: dict[str, dict[str, list[str]]] = {}
    for key, _ in list_pairs(types, given.types, heads=given.heads):
        missing = [one for one in pairs if _is_missing(key, pairs[one], again=given.again)]
        if missing:
            wanted.setdefault(key.partition(" ")[0], {})[key] = missing
    jobs = [
        make_job("export-type", name, (given.configs.absolute(), json.dumps(targets)), types[name])
        for name, targets in wanted.items()
    ]
    worker = HERE / "export_coverage_worker.py"
    limits = Limits(jobs=JOBS_PER_WORKER)
    with finished_jobs("export-coverage", jobs, worker, given, _describe, limits=limits) as results:
        for result in results.values():
            for target, found in result["summary"].items():
                pairs[target].update(found)
        for target, found in pairs.items():
            write_pairs(target, found)
    write_page()


def _is_missing(key: str, done: dict[str, Any], *, again: bool) -> bool:
    return key not in done or (again and not is_judged(done[key]))


def _describe(result: Result) -> str:
    """Returns a line for each pair and target, or why there is none: such a pair has no result then."""
    lines = [
        f"{key} {target} {one['verdict']} {one.get('reason', '')[:150]}"
        for target, found in result["summary"].items()
        for key, one in found.items()
    ]
    return "\n  ".join(["", *lines]) if lines else describe_error(result)


if __name__ == "__main__":
    main()
