"""Plants the faults, judges them, and writes the league table; what is there already is not made again.

PYTHONPATH=benchmarks python -m faults [--classes NAMES] [--fixtures NAMES] [--sample 30 --seed 0]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from equipoise.convert.core.errors import EquipoiseError
from equipoise.validators.runtime.process import WorkerPool
from faults.corpus import FIXTURES, Corpus, Fault, fixture_names, read_table
from faults.judge import Judge, open_judge

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "faults"
TIME_LIMIT_SECONDS = 300


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--classes", help="names of classes or kinds, separated by commas")
    parser.add_argument("--fixtures", help="names of fixtures, separated by commas")
    parser.add_argument("--sample", type=int, help="judge a random sample of this size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="stop judging after this time")
    parser.add_argument("--oracle", help="the interpreter for TensorFlow's and Flax's classes")
    parser.add_argument("--programs", type=Path, default=ROOT / ".cache" / "programs")
    given = parser.parse_args()
    _, kinds = read_table()
    if given.classes:
        names = given.classes.split(",")
        kinds = [one for one in kinds if one.class_name in names or one.name in names]
    fixtures = given.fixtures.split(",") if given.fixtures else fixture_names()
    corpus = Corpus(CACHE / "corpus", given.programs, 0)
    start = time.monotonic()
    faults = list(corpus.plant(kinds, fixtures))
    if given.sample:
        chosen = np.random.default_rng(given.seed).permutation(len(faults))[: given.sample]
        faults = [faults[i] for i in sorted(chosen)]
    print(f"{len(faults)} faults, {time.monotonic() - start:.0f} s", flush=True)
    seconds = given.minutes * 60 if given.minutes else float("inf")
    interpreters = {"oracle": given.oracle} if given.oracle else {}
    judge_all(corpus, faults, CACHE / "results", interpreters, start + seconds)


def judge_all(
    corpus: Corpus, faults: list[Fault], results: Path, interpreters: dict[str, str], end: float
) -> None:
    """Judges the faults that have no result yet, one fixture after the other, until the end of the time."""
    by_fixture: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        if not result_file(results, fault).is_file():
            by_fixture[fault.fixture].append(fault)
    for fixture, some in by_fixture.items():
        if time.monotonic() > end:
            return
        with (
            WorkerPool(interpreters, time_limit=TIME_LIMIT_SECONDS) as pool,
            open_judge(FIXTURES / fixture, pool) as judge,
        ):
            for fault in some:
                if time.monotonic() > end:
                    return
                judge_one(corpus, fault, judge, result_file(results, fault))


def judge_one(corpus: Corpus, fault: Fault, judge: Judge, output: Path) -> None:
    """Judges one fault and keeps the result."""
    start = time.monotonic()
    try:
        judgement = judge.judge(corpus.artifact(fault)).as_dict()
    except EquipoiseError as error:
        judgement = {"code": 2, "verdict": "refused", "reasons": [error.message]}
    judgement["seconds"] = time.monotonic() - start
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(judgement, indent=1) + "\n")
    where = "" if not fault.module else f"  [{fault.module}] -> [{judgement.get('module', '')}]"
    ratio = judgement.get("ratio", 0)
    print(f"{judgement['code']} {fault.name} {ratio:.3g} {where}", flush=True)


def result_file(results: Path, fault: Fault) -> Path:
    """Returns the file of a fault's result."""
    return results / f"{fault.name}.json"


if __name__ == "__main__":
    sys.exit(main())
