"""Measures how many small mistakes in the operators of ``exporters/lowering/ops`` their tests catch.

``python benchmarks/mutate_ops.py`` makes one mistake after the other, in a shuffled order that is always the same, and
runs the samples of the affected operators. It stops after ``--minutes`` and continues there when it is started again; a mistake
in a function that has changed since is tried again, and so is one that no sample has caught yet.

``results/mutate-ops-equivalent.toml`` lists mistakes that cause no difference that PyTorch would not allow, each with the
reason. They are tried too: one that a sample catches is reported as not equivalent.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import signal
import sys
import time
import tomllib
import types
import warnings
from collections.abc import Callable
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OPS = ROOT / "exporters" / "lowering" / "ops"
RESULTS = Path(__file__).parent / "results" / "mutate-ops.json"
EQUIVALENT_MUTANTS = RESULTS.with_name("mutate-ops-equivalent.toml")
TIME_LIMIT_SECONDS = 30
"""Time limit for one mistake; one that takes longer counts as caught, as it made a loop endless or an array huge."""
SAMPLES_PER_PROGRAM = 6
"""Number of samples in one program: the first ones catch most mistakes."""
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests" / "exporters" / "lowering")]

from aten_agreement import DOUBLES, Program, disagreement, is_refused
from aten_samples import Sample, kind_of, samples_of
from mutants import Mutant, find_users, make_mutants


def register_mutant(tree: Any, family: str) -> dict[str, Callable[..., Any]]:
    """Returns the operators that a module with a mistake registers."""
    from equipoise.exporters.lowering import registry

    known = registry._FUNCTIONS
    found: dict[str, Callable[..., Any]] = {}
    module = types.ModuleType(f"equipoise.exporters.lowering.ops.{family}")
    registry._FUNCTIONS = found
    try:
        exec(compile(tree, family, "exec"), module.__dict__)  # noqa: S102
    finally:
        registry._FUNCTIONS = known
    return found


@cache
def original_program(name: str, first: int, family: str) -> str:
    """Returns the text of the program of some samples of an operator without a mistake."""
    from equipoise.exporters.lowering.registry import registered_functions

    samples = sample_groups(name)[first]
    program = Program(registered_functions()[name], samples)
    for sample, one in zip(samples, program.answers(), strict=True):
        if found := disagreement(sample, one, family):
            # Such a sample would catch every mistake.
            raise SystemExit(f"without a mistake {sample}: {found}")
    return program.text


@cache
def sample_groups(name: str) -> list[list[Sample]]:
    """Returns the samples of an operator in small groups, each with samples of one kind."""
    found = []
    for _, some in itertools.groupby(samples_of(name), kind_of):
        samples = list(some)
        for one in samples:
            # An error of PyTorch itself must stop the run here, and not count as a caught mistake.
            assert one.refused or one.expected is not None
        found += [
            samples[at : at + SAMPLES_PER_PROGRAM]
            for at in range(0, len(samples), SAMPLES_PER_PROGRAM)
        ]
    return found


def check_samples(function: Callable[..., Any], name: str, first: int, family: str) -> str:
    """Returns how some samples catch a mistake; empty if they do not."""
    samples = sample_groups(name)[first]
    if samples[0].refused:
        return "" if all(is_refused(function, one) for one in samples) else "not refused"
    program = Program(function, samples)
    if program.text == original_program(name, first, family):
        return ""
    if program.doubles():
        return DOUBLES
    for sample, one in zip(samples, program.answers(), strict=True):
        if found := disagreement(sample, one, family):
            return f"{sample.operator}: {found}"
    return ""


def affected_operators(
    mutant: Mutant, source: str, known: dict[str, Callable[..., Any]]
) -> list[str]:
    """Returns the operators that a mistake affects, the closest ones first."""
    if mutant.unit.startswith("["):
        return [name for name in known if name.split(".")[1] == mutant.unit[1:-1]]
    need = find_users(source)[mutant.unit.partition("[")[0]]
    paths = {name: getattr(one, "__qualname__", "").split(".") for name, one in known.items()}
    return [name for name, path in paths.items() if need & set(path)]


def run_mutant(mutant: Mutant, source: str, family: str) -> str:
    """Returns how a mistake is caught; empty if it is missed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            known = register_mutant(mutant.tree, family)
    except Exception as error:  # noqa: BLE001
        return type(error).__name__
    for name in affected_operators(mutant, source, register_mutant(source, family)):
        for first in range(len(sample_groups(name))):
            try:
                found = check_samples(known[name], name, first, family)
            except Exception as error:  # noqa: BLE001
                return type(error).__name__
            if found:
                return found[:120]
    return ""


def mutant_key(family: str, mutant: Mutant) -> str:
    """Returns the key of a mistake in the results: a hash of its text and that of its function."""
    text = f"{family} {mutant.unit} {mutant.what} {mutant.source}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_equivalent_mutants() -> dict[tuple[str, str, str], str]:
    """Returns the reasons why mistakes are equivalent, by file, function and change."""
    files = tomllib.loads(EQUIVALENT_MUTANTS.read_text())
    return {
        (file, function, what): why
        for file, functions in files.items()
        for function, mistakes in functions.items()
        for what, why in mistakes.items()
    }


def raise_timeout(*_: Any) -> None:
    """Raises TimeoutError; handles the alarm signal."""
    raise TimeoutError


def main() -> None:
    """Tries mistakes until the time is up, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", default="", help="one file of ops")
    options = parser.parse_args()
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    from equipoise.exporters.lowering.registry import registered_functions

    registered_functions()  # imports all ops before the first mistake is registered
    signal.signal(signal.SIGALRM, raise_timeout)
    figures = json.loads(RESULTS.read_text())["functions"] if RESULTS.exists() else {}
    before = {name for one in figures.values() for name in one["caught_keys"]}
    reasons = read_equivalent_mutants()
    work = []
    for path in sorted(OPS.glob("[!_]*.py")):
        source = path.read_text()
        work += [(path.stem, source, one) for one in make_mutants(source)]
    random.Random(0).shuffle(work)
    started, found = time.monotonic(), {}
    for family, source, mutant in work:
        name = mutant_key(family, mutant)
        why = "in an earlier run" if name in before else None
        if not why and options.only in family and time.monotonic() - started < 60 * options.minutes:
            why = run_mutant_in_time(mutant, source, family)
        if why is None:
            continue
        where = {"file": family, "function": mutant.unit, "what": mutant.what}
        reason = reasons.pop(tuple(where.values()), "")
        found[name] = {"key": name, **where, "caught": why}
        if reason:
            found[name]["equivalent"] = reason
        if bool(why) == bool(reason):
            print("NOT EQUIVALENT" if why else "missed", *where.values(), flush=True)
        if len(found) % 50 == 0:
            write_results(list(found.values()), len(work))
    for one in reasons:
        print("no such mistake:", *one)
    print(write_results(list(found.values()), len(work)))


def run_mutant_in_time(mutant: Mutant, source: str, family: str) -> str:
    """Returns how a mistake is caught within the time limit; empty if it is missed."""
    # Repeated each second: an exception in a callback of the garbage collector is lost.
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT_SECONDS, 1)
    try:
        return run_mutant(mutant, source, family)
    except TimeoutError:
        return "TimeoutError"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def write_results(rows: list[dict[str, Any]], possible: int) -> dict[str, int]:
    """Writes the figures of every function, and the keys of caught mistakes, which are not tried again."""
    same = sum("equivalent" in one and not one["caught"] for one in rows)
    seen = sum(bool(one["caught"]) for one in rows)
    summary = {
        "possible": possible,
        "tried": len(rows),
        "caught": seen,
        "equivalent": same,
        "missed": len(rows) - seen - same,
    }
    functions = {
        f"{file}.{function}": _function_figures(list(group))
        for (file, function), group in itertools.groupby(
            sorted(rows, key=itemgetter("file", "function")), itemgetter("file", "function")
        )
    }
    RESULTS.write_text(json.dumps({"summary": summary, "functions": functions}, indent=1) + "\n")
    return summary


def _function_figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    caught = sorted(one["key"] for one in rows if one["caught"])
    same = sum("equivalent" in one and not one["caught"] for one in rows)
    return {"total": len(rows), "caught": len(caught), "equivalent": same, "caught_keys": caught}


if __name__ == "__main__":
    main()
