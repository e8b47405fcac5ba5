"""Plants the faults, judges them, and writes the league table; what is there already is not made again.

PYTHONPATH=benchmarks python -m faults [--classes NAMES] [--fixtures NAMES] [--sample 30 --seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.evaluation.host import describe_host
from equipoise.validators.runtime.process import WorkerPool
from faults.corpus import FIXTURES, Corpus, Fault, Kind, fixture_names, read_table
from faults.judge import Judge, open_judge
from faults.league import Row, count_rows, group_rows
from faults.page import PAGE, render_page, write_results
from faults.peers import CRITERIA

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "faults"
TIME_LIMIT_SECONDS = 300
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
    corpus = Corpus(CACHE / "corpus", given.programs)
    if given.fresh:
        shutil.rmtree(CACHE / "results", ignore_errors=True)
    run = Run(
        corpus,
        CACHE / "results",
        {"oracle": given.oracle} if given.oracle else {},
        time.monotonic() + 60 * given.minutes,
    )
    faults = run.plant(kinds, fixtures)
    if given.sample:
        chosen = np.random.default_rng(given.seed).permutation(len(faults))[: given.sample]
        faults = [faults[i] for i in sorted(chosen)]
    run.judge_all(faults)
    rows = run.read(faults)
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
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--fresh", action="store_true", help="judge again what has a result")
    parser.add_argument("--write", action="store_true", help="write docs/faults.md and its JSON")
    parser.add_argument("--oracle", help="the interpreter for TensorFlow's and Flax's classes")
    parser.add_argument("--programs", type=Path, default=ROOT / ".cache" / "programs")
    return parser.parse_args()


@dataclass(frozen=True)
class Run:
    """Plants and judges until the time is over.

    Attributes:
        corpus: The artifacts.
        results: The folder of the results, a file for each fault.
        interpreters: Interpreters of backends by name.
        end: When to stop, on the monotonic clock.
    """

    corpus: Corpus
    results: Path
    interpreters: Mapping[str, str]
    end: float

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.end

    def plant(self, kinds: list[Kind], fixtures: list[str]) -> list[Fault]:
        """Returns the faults of some kinds in some fixtures; not all of them where the time ends before."""
        faults = []
        for fault in self.corpus.plant(kinds, fixtures):
            faults.append(fault)
            if self.is_over:
                print("the time was over before all faults were planted", flush=True)
                break
        return faults

    def judge_all(self, faults: list[Fault]) -> None:
        """Judges the faults that have no result yet, one fixture after the other; slow backends at last."""
        groups: dict[tuple[bool, str], list[Fault]] = defaultdict(list)
        for fault in faults:
            if not self.result_file(fault).is_file():
                groups[fault.backend in SLOW_BACKENDS, fault.fixture].append(fault)
        with WorkerPool(self.interpreters, time_limit=TIME_LIMIT_SECONDS) as pool:
            for (_, fixture), some in sorted(groups.items()):
                if not self.is_over:
                    self.judge_fixture(fixture, some, pool)

    def judge_fixture(self, fixture: str, faults: list[Fault], pool: WorkerPool) -> None:
        """Judges the faults of one fixture, with one run of its reference."""
        with open_judge(FIXTURES / fixture, pool) as judge:
            for fault in faults:
                if not self.is_over:
                    self.judge_one(fault, judge)

    def judge_one(self, fault: Fault, judge: Judge) -> None:
        """Judges one fault and keeps the result."""
        start = time.monotonic()
        try:
            judgement = judge.judge(self.corpus.artifact(fault)).as_dict()
        except InputError as error:
            judgement = {"code": error.exit_code, "verdict": "refused", "reasons": [error.message]}
        judgement["expected"] = judge.rename_module(fault.module, fault.weight)
        judgement["seconds"] = round(time.monotonic() - start, 2)
        output = self.result_file(fault)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(judgement, indent=1) + "\n")
        row = Row(fault, judgement)
        where = f"{row.module} -> {judgement.get('module', '')}" if row.module else ""
        mark = "" if row.located or not row.module else "NOT LOCATED "
        print(f"{judgement['code']} {fault.name} {mark}{where}", flush=True)

    def result_file(self, fault: Fault) -> Path:
        """Returns the file of a fault's result."""
        return self.results / f"{fault.name}.json"

    def read(self, faults: list[Fault]) -> list[Row]:
        """Returns the faults that have a result, with it."""
        files = [(fault, self.result_file(fault)) for fault in faults]
        return [Row(fault, json.loads(file.read_text())) for fault, file in files if file.is_file()]


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
