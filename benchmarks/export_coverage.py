"""Which model types of transformers reach a judged program: every one as a tiny random model.

    python benchmarks/export_coverage.py CONFIGS [--heads] [--again] [--seconds N] [TYPE ...]

CONFIGS is a JSON file with ``types``: by model type its class, the shapes of its inputs and a small config;
``benchmarks/export_configs.json`` is one for transformers 5.23. Results
go to ``benchmarks/results/export-coverage.json`` after each model; what is there already is not done again, so the
command can be stopped and started. ``docs/export-coverage.md`` is written from it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from export_page import PAGE, good, page
from export_tasks import BASE, pairs

from equipoise.convert.errors import WorkerError
from equipoise.convert.output import write_atomic
from equipoise.exporters.base import find_target
from equipoise.validators.attempts import reason_of
from equipoise.validators.tolerance import DEFAULTS
from equipoise.validators.verdict import Verdict, judge_case
from equipoise.validators.workers import Workers

HERE = Path(__file__).parent
WORKER = HERE / "export_worker.py"
RESULTS = HERE / "results" / "export-coverage.json"
TARGET = "onnx"
BY_TORCH_EXPORT = ("dynamo", "transformers")
"""Ways to ONNX that begin with ``torch.export``."""
RENEWED = 20
"""Pairs after which the processes are made anew: tracers keep much of what they have seen, and slow down."""
OF_TORCH_EXPORT = ("GuardOnDataDependentSymNode", "UserError", "DataDependentOutputException")
"""Errors that are its own, and none of the translation to ONNX."""
SECONDS = 120
"""That one step of one way may take."""


def main() -> None:
    """Goes on where it stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", type=Path)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--heads", action="store_true", help="heads of tasks too")
    parser.add_argument("--again", action="store_true", help="those too that reached no program")
    given = parser.parse_intermixed_args()
    types = json.loads(given.configs.read_text())["types"]
    done: dict[str, Any] = json.loads(RESULTS.read_text())["pairs"] if RESULTS.exists() else {}
    results = {"types": len(types), "pairs": done}
    limit = time.monotonic() + given.seconds
    left = [
        (key, entry)
        for key, entry in pairs(types, given.types, heads=given.heads)
        if key not in done or (given.again and not good(done[key]))
    ]
    for first in range(0, len(left), RENEWED):
        with Workers(time_limit=SECONDS) as workers:
            for key, entry in left[first : first + RENEWED]:
                start = time.monotonic()
                if start > limit:
                    break
                done[key] = _pair(key, entry, done, workers)
                _keep(results)
                took = f"{time.monotonic() - start:.1f} s"
                print(
                    key, took, done[key]["verdict"], done[key].get("reason", "")[:150], flush=True
                )
    write_atomic(PAGE, page(results))


def _keep(results: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    write_atomic(RESULTS, json.dumps(results, indent=1, sort_keys=True) + "\n")


def _pair(
    key: str, entry: dict[str, Any], done: dict[str, Any], workers: Workers
) -> dict[str, Any]:
    """One model type and task; a class that another task has already brought is not done again."""
    model_type, _, task = key.partition(" ")
    mine = {
        other: one
        for other, one in done.items()
        if other.startswith(f"{model_type} ") and other != key and one["class"] == entry["class"]
    }
    if mine and task != "multiple-choice":
        return next(iter(mine.values()))
    served = done.get(f"{model_type} {BASE}", {}).get("way")
    return _one(model_type, entry, served, workers)


def _one(
    model_type: str, entry: dict[str, Any], served: str | None, workers: Workers
) -> dict[str, Any]:
    """The verdict on one model, and what was tried; the way that served its body comes first."""
    given = {
        "model_type": model_type,
        "config": entry["config"],
        "class_name": entry["class"],
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            shapes = entry["inputs"]
            environment = workers.get("pytorch")
            built = environment.call(WORKER, "build", **given, shapes=shapes, folder=folder)
        except WorkerError as error:
            return {"class": entry["class"], "verdict": "does not run", "reason": reason_of(error)}
        tried = _tried(given, served, folder, workers)
        right = any(map(good, tried))
        # Of a head it is asked only where it explains a failure.
        refused = {} if right and served else _refused(tried, given, folder, workers)
        if not right:
            tried += _with_computed(given, folder, workers)
        best = min(tried, key=lambda one: _RANK.index(one["verdict"]))
        others = [one for one in tried if one is not best]
        return {"class": entry["class"], **built, **best, "others": others, **refused}


def _tried(
    given: dict[str, Any], served: str | None, folder: str, workers: Workers
) -> list[dict[str, Any]]:
    """The ways up to the first that is right."""
    tried: list[dict[str, Any]] = []
    for way in sorted(find_target(TARGET)[0].ways, key=lambda way: way != served):
        tried.append(_way(way, given, folder, workers))
        if good(tried[-1]):
            break
    return tried


def _with_computed(given: dict[str, Any], folder: str, workers: Workers) -> list[dict[str, Any]]:
    """Once more with positions and the like as inputs, where the model computes them from plain sizes."""
    try:
        names = workers.get("pytorch").call(WORKER, "precompute", **given, folder=folder)["names"]
    except WorkerError:
        return []
    found = _way("transformers", given, folder, workers)
    return [{**found, "computed": names}]


_RANK = [verdict.value for verdict in Verdict] + ["not exported"]


def _refused(
    tried: list[dict[str, Any]], given: dict[str, Any], folder: str, workers: Workers
) -> dict[str, str]:
    """Why ``torch.export`` takes the model, with its own inputs, neither plainly nor as transformers calls it.

    Empty if it does.
    """
    plain = {one["way"]: one for one in tried}
    reasons = []
    for way in BY_TORCH_EXPORT:
        found = plain.get(way)
        if found is not None and found["verdict"] != "not exported":
            return {}
        if found is not None and found["reason"].startswith(OF_TORCH_EXPORT):
            reasons.append(found["reason"])
            continue
        try:
            workers.get("pytorch").call(WORKER, "accepts", **given, way=way, folder=folder)
        except WorkerError as error:
            reasons.append(reason_of(error))
        else:
            return {}
    return {"refused": reasons[0]}


def _way(way: str, given: dict[str, Any], folder: str, workers: Workers) -> dict[str, Any]:
    """Exported in one way and judged."""
    try:
        environment = workers.get("pytorch")
        made = environment.call(WORKER, "export", **given, target=TARGET, way=way, folder=folder)
    except WorkerError as error:
        return {"way": way, "verdict": "not exported", "reason": reason_of(error)}
    try:
        workers.get("onnx").call(WORKER, "run_onnx", folder=folder)
    except WorkerError as error:
        return {"way": way, "verdict": "failed", "reason": reason_of(error)}
    verdict, reason = _judged(Path(folder))
    notes = {"notes": made["notes"]} if made["notes"] else {}
    return {"way": way, "verdict": verdict.value, "reason": reason, **notes}


def _judged(folder: Path) -> tuple[Verdict, str]:
    """The worst over both batches, fused and plain."""
    worst, reason = Verdict.IDENTICAL, ""
    for batch in ("first", "second"):
        reference, truth = (
            _load(folder / f"{batch}-{kind}.npz") for kind in ("reference", "truth")
        )
        for kind in ("optimized", "plain"):
            case = judge_case(
                f"{batch} {kind}",
                _load(folder / f"{batch}-{kind}.npz"),
                reference,
                truth,
                valid={},
                precision="float32",
                tolerance=DEFAULTS["float32"],
                decisions=(),
                own=(),
            )
            if case.verdict.rank > worst.rank:
                worst = case.verdict
                first = max(case.outputs, key=lambda output: output.verdict.rank)
                reason = "" if first.reason == "" else f"{case.case}: {first.name}: {first.reason}"
    return worst, reason


def _load(path: Path) -> dict[str, Any]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


if __name__ == "__main__":
    main()
