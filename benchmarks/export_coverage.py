"""Which model types of transformers reach a judged program: every one as a tiny random model.

    python benchmarks/export_coverage.py CONFIGS [--target T ...] [--heads] [--again] [--part 1/2] [--seconds N] [TYPE ...]

CONFIGS is a JSON file with ``types``: by model type its class, the shapes of its inputs and a small config;
``benchmarks/export_configs.json`` is one for transformers 5.23. Results
go to a file of ``benchmarks/results`` after each model; what is there already is not done again, so the
command can be stopped and started. Several targets share what is the same for all of them. Parts may run side by side, each with a file of its own; the next run without
``--part`` puts them together. ``docs/coverage.md`` is written from the results.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from coverage_page import is_judged, write_page
from export_targets import TARGETS, Kept
from export_tasks import BASE, pairs

from equipoise.convert.core.errors import WorkerError
from equipoise.exporters.target import find_target
from equipoise.validators.core.tolerance import DEFAULTS
from equipoise.validators.export.attempts import summarize_worker_error
from equipoise.validators.judgement.results import Verdict
from equipoise.validators.judgement.verdict import judge_case
from equipoise.validators.runtime.process import WorkerPool

HERE = Path(__file__).parent
WORKER = HERE / "export_worker.py"
BY_TORCH_EXPORT = ("dynamo", "transformers")
"""Ways to ONNX that begin with ``torch.export``."""
RENEWED = 20
"""Pairs after which the processes are made anew: tracers keep much of what they have seen, and slow down."""
OF_TORCH_EXPORT = ("GuardOnDataDependentSymNode", "UserError", "DataDependentOutputException")
"""Errors that are its own, and none of the translation to ONNX."""
SECONDS = 300
"""That one step of one way may take."""


def main() -> None:
    """Goes on where it stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", type=Path)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--heads", action="store_true", help="heads of tasks too")
    parser.add_argument("--again", action="store_true", help="those too that reached no program")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="default: onnx")
    parser.add_argument("--part", default="1/1", help="which part of the models, of how many")
    given = parser.parse_intermixed_args()
    types = json.loads(given.configs.read_text())["types"]
    part, parts = (int(number) for number in given.part.split("/"))
    targets = given.target or ["onnx"]
    kept = {target: Kept(target, part, parts) for target in targets}
    limit = time.monotonic() + given.seconds
    left = []
    for index, (key, entry) in enumerate(pairs(types, given.types, heads=given.heads)):
        missing = [one for one in targets if _to_do(key, kept[one].pairs, again=given.again)]
        if missing and index % parts == part - 1:
            left.append((key, entry, missing))
    for first in range(0, len(left), RENEWED):
        with WorkerPool(time_limit=SECONDS) as workers:
            for key, entry, missing in left[first : first + RENEWED]:
                start = time.monotonic()
                if start > limit:
                    break
                done = {target: kept[target].pairs for target in missing}
                for target, found in _pair(key, entry, done, workers).items():
                    kept[target].add(key, found)
                took = f"{time.monotonic() - start:.1f} s"
                for target in missing:
                    found = done[target][key]
                    said = (target, found["verdict"], found.get("reason", "")[:150])
                    print(key, took, *said, flush=True)
    for target in targets:
        kept[target].save()
    if parts == 1:
        write_page()


def _to_do(key: str, done: dict[str, Any], *, again: bool) -> bool:
    return key not in done or (again and not is_judged(done[key]))


def _pair(
    key: str, entry: dict[str, Any], done: dict[str, dict[str, Any]], workers: WorkerPool
) -> dict[str, dict[str, Any]]:
    """One model type and task, by target; a class that another task has already brought is not done again."""
    model_type, _, task = key.partition(" ")
    found = {}
    for target, pairs_done in done.items():
        mine = {
            other: one
            for other, one in pairs_done.items()
            if other.startswith(f"{model_type} ")
            and other != key
            and one["class"] == entry["class"]
        }
        if mine and task != "multiple-choice":
            found[target] = next(iter(mine.values()))
    served = {
        target: pairs_done.get(f"{model_type} {BASE}", {}).get("way")
        for target, pairs_done in done.items()
        if target not in found
    }
    return found | (_one(model_type, entry, served, workers) if served else {})


def _one(
    model_type: str, entry: dict[str, Any], served: dict[str, str | None], workers: WorkerPool
) -> dict[str, dict[str, Any]]:
    """By target the verdict on one model, and what was tried; the way that served its body comes first."""
    given = {
        "model_type": model_type,
        "config": entry["config"],
        "class_name": entry["class"],
    }
    about: dict[str, Any] = {"class": entry["class"]}
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def build() -> None:
            environment = workers.get("pytorch")
            shapes = entry["inputs"]
            about.update(environment.call(WORKER, "build", **given, shapes=shapes, folder=folder))

        try:
            build()
        except WorkerError as error:
            missing = {**about, "verdict": "does not run", "reason": summarize_worker_error(error)}
            return dict.fromkeys(served, missing)
        refused: dict[str, str] | None = None
        for target, first in served.items():
            tried = _tried(given, first, target, folder, workers)
            right = any(map(is_judged, tried))
            # Of a head it is asked only where it explains a failure.
            if refused is None:
                refused = {} if right and first else _refused(tried, given, folder, workers)
            if not right:
                tried += _with_computed(given, target, folder, workers)
                build()  # the inputs as they were
            best = min(tried, key=lambda one: _RANK.index(one["verdict"]))
            others = [one for one in tried if one is not best]
            found[target] = {**about, **best, "others": others, **refused}
    return found


def _tried(
    given: dict[str, Any], served: str | None, target: str, folder: str, workers: WorkerPool
) -> list[dict[str, Any]]:
    """The ways up to the first that is right."""
    tried: list[dict[str, Any]] = []
    for way in sorted(find_target(target)[0].ways, key=lambda way: way != served):
        tried.append(_way(way, given, target, folder, workers))
        if is_judged(tried[-1]):
            break
    return tried


def _with_computed(
    given: dict[str, Any], target: str, folder: str, workers: WorkerPool
) -> list[dict[str, Any]]:
    """Once more with positions and the like as inputs, where the model computes them from plain sizes."""
    try:
        names = workers.get("pytorch").call(WORKER, "precompute", **given, folder=folder)["names"]
    except WorkerError:
        return []
    found = _way("transformers", given, target, folder, workers)
    return [{**found, "computed": names}]


_RANK = [verdict.value for verdict in Verdict] + ["not exported"]


def _refused(
    tried: list[dict[str, Any]], given: dict[str, Any], folder: str, workers: WorkerPool
) -> dict[str, str]:
    """Why ``torch.export`` takes the model, with its own inputs, neither plainly nor as transformers calls it.

    Empty if it does.
    """
    plain = {"dynamo" if one["way"] == "export" else one["way"]: one for one in tried}
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
            reasons.append(summarize_worker_error(error))
        else:
            return {}
    return {"refused": reasons[0]}


def _way(
    way: str, given: dict[str, Any], target: str, folder: str, workers: WorkerPool
) -> dict[str, Any]:
    """Exported in one way and judged."""
    start = time.monotonic()
    try:
        environment = workers.get("pytorch")
        made = environment.call(WORKER, "export", **given, target=target, way=way, folder=folder)
    except WorkerError as error:
        return {"way": way, "verdict": "not exported", "reason": summarize_worker_error(error)}
    seconds = round(time.monotonic() - start, 1)
    about = TARGETS[target]
    try:
        ran = workers.get(target).call(WORKER, about.run, folder=folder)
    except WorkerError as error:
        return {
            "way": way,
            "verdict": "failed",
            "reason": summarize_worker_error(error),
            "seconds": seconds,
        }
    verdict, reason = _judged(Path(folder), about.kinds)
    notes = {"notes": made["notes"]} if made["notes"] else {}
    told = {"reason": reason, "seconds": seconds, **ran, **notes}
    return {"way": way, "verdict": verdict.value, **told}


def _judged(folder: Path, kinds: tuple[str, ...]) -> tuple[Verdict, str]:
    """The worst over both batches, in all the kinds in which the program was run."""
    worst, reason = Verdict.IDENTICAL, ""
    for batch in ("first", "second"):
        reference, truth = (
            _load(folder / f"{batch}-{kind}.npz") for kind in ("reference", "truth")
        )
        for kind in kinds:
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
