"""Measures how many architectures `equipoise derive` can derive: those of Equipoise, and the model types of transformers.

    python benchmarks/derive_coverage.py own                 # the TOMLs of convert/archs, under the configs of fixtures/
    python benchmarks/derive_coverage.py types --limit 200   # types of export_configs.json, in a shuffled order
    python benchmarks/derive_coverage.py page                # docs/coverage.md from the results

Types that have a result in ``benchmarks/results`` are skipped; the others are added there at the end. Needs torch and transformers.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from coverage_page import write_page
from measurement_jobs import add_options, finished_jobs, make_job

from equipoise.convert.architectures.spec_files import spec_names
from equipoise.convert.files.atomic import write_atomic
from equipoise.fleet.core.store import Result
from equipoise.fleet.running.worker_process import Limits

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "derive-coverage.json"
CONFIGS = HERE / "export_configs.json"
TIME_LIMIT_SECONDS = 1200
"""Time limit for one type; its worker allows a tenth of it as CPU time."""
JOBS_PER_WORKER = 25
"""Number of types after which a worker is started anew: modules that were imported for one stay in memory."""


def main() -> None:
    """Derives the chosen types and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["own", "types", "page"])
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument(
        "--again", action="store_true", help="also types that were not complete before"
    )
    parser.add_argument("--only", nargs="*", help="derive only these types, again")
    add_options(parser)
    given = parser.parse_args()
    if given.what != "page":
        results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"own": {}, "types": {}}
        done = results[given.what]
        jobs = [make_job(given.what, name, (), content_of(name)) for name in choose(given, done)]
        limits = Limits(seconds=TIME_LIMIT_SECONDS, jobs=JOBS_PER_WORKER)
        worker = HERE / "derive_worker.py"
        with finished_jobs(
            "derive-coverage", jobs, worker, given, describe, limits=limits, retries=0
        ) as found:
            done.update({one["source"]: answer_of(one) for one in found.values()})
            write_atomic(RESULTS, json.dumps(results, indent=1, sort_keys=True) + "\n")
    write_page()


def choose(given: argparse.Namespace, done: dict[str, Any]) -> list[str]:
    """Returns the types to derive."""
    if given.what == "own":
        names = list(spec_names())
    else:
        names = list(json.loads(CONFIGS.read_text())["types"])
        random.Random(0).shuffle(names)
    if given.only:
        return [name for name in names if name in given.only]
    return [
        name
        for name in names[: given.limit]
        if name not in done or (given.again and done[name]["result"] != "complete")
    ]


def content_of(name: str) -> object:
    """Returns the config of a type, which decides what is derived."""
    return json.loads(CONFIGS.read_text())["types"].get(name)


def answer_of(result: Result) -> dict[str, Any]:
    """Returns what became of a type, as the file of results has it; a type whose worker died has failed."""
    seconds = round(result["run"]["seconds"], 1)
    if result["summary"]:
        return {**result["summary"], "seconds": seconds}
    return {"result": "failed", "why": result["error"]["message"][:300], "seconds": seconds}


def describe(result: Result) -> str:
    """Returns what became of a type in a line."""
    found = answer_of(result)
    return f"{found['result']} {found.get('why', '')[:150]}"


if __name__ == "__main__":
    main()
