"""Plants the faults, judges them, and writes the league table; what is there already is not made again.

PYTHONPATH=benchmarks python -m faults [--classes NAMES] [--fixtures NAMES] [--sample 30 --seed 0] [--workers N] [--shard I/N]
"""

from __future__ import annotations

import argparse
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from measurement_jobs import CACHE, add_options, describe_error, make_job

from equipoise.fleet.core.job_list import source_identity
from equipoise.fleet.core.jobs import Job
from equipoise.fleet.core.statuses import STATUSES
from equipoise.fleet.core.store import Result, ResultStore
from equipoise.fleet.drive import Fleet, run_fleet
from equipoise.fleet.running.job_runner import RunSettings
from equipoise.validators.evaluation.host import describe_host
from faults.corpus import Corpus, Fault, fixture_names, read_table
from faults.league import Row, count_rows, group_rows
from faults.page import PAGE, render_page, write_results
from faults.peers import CRITERIA

FOLDER = CACHE / "faults"
SLOW_BACKENDS = ("flax", "saved-model", "stablehlo", "tensorflow")
"""Backends that trace or compile for every shape of inputs."""


def main() -> None:
    """Runs what the command line asks for."""
    given = parse_arguments()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _, kinds = read_table()
    if given.classes:
        names = given.classes.split(",")
        kinds = [one for one in kinds if one.class_name in names or one.name in names]
    fixtures = given.fixtures.split(",") if given.fixtures else fixture_names()
    corpus = Corpus(FOLDER / "corpus", given.programs)
    faults = list(corpus.plant(kinds, fixtures))
    if given.sample:
        chosen = np.random.default_rng(given.seed).permutation(len(faults))[: given.sample]
        faults = [faults[i] for i in sorted(chosen)]
    rows = judge_all(faults, corpus, given)
    print_table(rows)
    print(f"{len(faults)} faults, {len(rows)} judged", flush=True)
    if given.write:
        write_results(rows, describe_run(rows))
        PAGE.write_text(render_page(), encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--classes", help="names of classes or kinds, separated by commas")
    parser.add_argument("--fixtures", help="names of fixtures, separated by commas")
    parser.add_argument("--sample", type=int, help="judge a random sample of this size")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--fresh", action="store_true", help="judge again what has a result")
    parser.add_argument("--write", action="store_true", help="write docs/faults.md and its JSON")
    parser.add_argument(
        "--oracle", default="", help="the interpreter for TensorFlow's and Flax's classes"
    )
    parser.add_argument("--programs", type=Path, default=CACHE / "programs")
    add_options(parser)
    return parser.parse_args()


def judge_all(faults: list[Fault], corpus: Corpus, given: argparse.Namespace) -> list[Row]:
    """Judges the faults that have no result yet, one fixture after the other, slow backends at last; returns those that have one."""
    ordered = sorted(faults, key=lambda one: (one.backend in SLOW_BACKENDS, one.fixture))
    jobs = {one.name: make_judgement_job(one, corpus, given.oracle) for one in ordered}
    by_key = {jobs[one.name].key: one for one in faults}

    def tell(result: Result, number: int, count: int) -> None:
        row = read_row(by_key[result["key"]], result)
        where = f"{row.module} -> {row.judgement.get('module', '')}" if row.module else ""
        mark = "" if row.located or not row.module else "NOT LOCATED "
        line = f"{row.judgement['code']} {row.fault.name} {mark}{where}"
        print(f"[{number}/{count}]", line, flush=True)

    settings = RunSettings(FOLDER / "results", worker="faults.worker")
    redo = STATUSES if given.fresh else ()
    run_fleet(
        Fleet(list(jobs.values()), settings, workers=given.workers, shard=given.shard, redo=redo),
        tell,
    )
    store = ResultStore.open(settings.store)
    return [read_row(one, store.read(key)) for key, one in by_key.items() if store.is_done(key)]


def make_judgement_job(fault: Fault, corpus: Corpus, oracle: str) -> Job:
    """Returns the job that judges a fault."""
    folder = str(corpus.artifact(fault).parent)
    return make_job("judge", folder, (oracle,), source_identity(folder))


def read_row(fault: Fault, result: Result) -> Row:
    """Returns a fault with what was said of it, and how long that took; a fault whose worker died has failed."""
    seconds = round(result["run"]["seconds"], 2)
    judgement = result["summary"] or {
        "code": 3,
        "verdict": "failed",
        "reasons": [describe_error(result)],
        "expected": fault.module,
    }
    return Row(fault, {**judgement, "seconds": seconds})


def describe_run(rows: list[Row]) -> dict[str, Any]:
    """Returns what the page says about the run: versions, processor, seconds, criteria."""
    packages = ("torch", "transformers", "onnxruntime", "jax", "tensorflow")
    return {
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
        "machine": describe_host()["processor"],
        "seconds": round(sum(one.judgement["seconds"] for one in rows)),
        "criteria": list(CRITERIA),
    }


def print_table(rows: list[Row]) -> None:
    """Prints the table of classes."""
    titles, _ = read_table()
    for name, some in group_rows(rows, "class_name").items():
        count = count_rows(some)
        print(
            f"{titles[name]:45} {count.faults:4} faults  {count.caught:4} caught  {count.failed:3} failed  "
            f"{count.missed:3} missed  {count.located:3} of {count.with_module:3} located"
        )


if __name__ == "__main__":
    main()
