"""Exports one model type with its heads to some targets and judges the programs: the worker of ``export_coverage.py``."""

from __future__ import annotations

import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from coverage_page import is_judged
from export_targets import TARGETS, read_pairs
from export_tasks import BASE_TASK, list_pairs

from equipoise.convert.core.errors import WorkerError
from equipoise.exporters.target import find_target
from equipoise.fleet.running.worker_loop import Tell, serve
from equipoise.validators.core.tolerance import DEFAULTS
from equipoise.validators.export.attempts import summarize_worker_error
from equipoise.validators.judgement.results import Verdict
from equipoise.validators.judgement.verdict import judge_case
from equipoise.validators.runtime.process import WorkerPool

HERE = Path(__file__).parent
WORKER = HERE / "export_worker.py"
TORCH_EXPORT_WAYS = ("dynamo", "transformers")
"""Strategies for the ONNX target that begin with ``torch.export``."""
TORCH_EXPORT_ERRORS = ("GuardOnDataDependentSymNode", "UserError", "DataDependentOutputException")
"""Prefixes of errors that ``torch.export`` itself raises, not the translation to ONNX."""
TIME_LIMIT_SECONDS = 300
"""Time limit for one worker call, such as one export attempt."""


def main() -> None:
    """Answers requests; the processes that export and run programs stay warm."""
    with WorkerPool(time_limit=TIME_LIMIT_SECONDS) as workers:
        serve(partial(_measure_type, workers))


def _measure_type(workers: WorkerPool, arguments: list[str], tell: Tell) -> int:
    """Measures pairs of one model type, in the order in which they are given, and prints the results by target.

    Args:
        workers: The processes.
        arguments: The command, the model type, a folder, the file of configs, and the targets of each pair as JSON.
        tell: Called with each pair.
    """
    _, model_type, _, configs, given = arguments
    wanted: dict[str, list[str]] = json.loads(given)
    types = json.loads(Path(configs).read_text())["types"]
    entries = dict(list_pairs(types, [model_type], heads=True))
    done: dict[str, dict[str, Any]] = {}
    for key, targets in wanted.items():
        for target in targets:
            kept = done.setdefault(target, read_pairs(target))
            kept.pop(key, None)
    found: dict[str, dict[str, Any]] = {target: {} for target in done}
    for key, targets in wanted.items():
        tell(key)
        some = {target: done[target] for target in targets}
        for target, one in _measure_pair(key, entries[key], some, workers).items():
            done[target][key] = found[target][key] = one
    print(json.dumps(found))
    return 0


def _measure_pair(
    key: str, entry: dict[str, Any], done: dict[str, dict[str, Any]], workers: WorkerPool
) -> dict[str, dict[str, Any]]:
    """Returns the results of one model type and task by target; reuses the result of another task with the same class."""
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
        target: pairs_done.get(f"{model_type} {BASE_TASK}", {}).get("way")
        for target, pairs_done in done.items()
        if target not in found
    }
    return found | (_measure_model(model_type, entry, served, workers) if served else {})


def _measure_model(
    model_type: str, entry: dict[str, Any], served: dict[str, str | None], workers: WorkerPool
) -> dict[str, dict[str, Any]]:
    """Returns the result of one model by target, with all attempts; the strategy that worked for the base model is tried first."""
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
            tried = _try_ways(given, first, target, folder, workers)
            right = any(map(is_judged, tried))
            # For a head, this is checked only if it explains a failure.
            if refused is None:
                refused = (
                    {} if right and first else _torch_export_refusal(tried, given, folder, workers)
                )
            if not right:
                tried += _try_with_precomputed_inputs(given, target, folder, workers)
                build()  # restores the inputs that precompute() replaced
            best = min(tried, key=lambda one: _VERDICT_ORDER.index(one["verdict"]))
            others = [one for one in tried if one is not best]
            found[target] = {**about, **best, "others": others, **refused}
    return found


def _try_ways(
    given: dict[str, Any], served: str | None, target: str, folder: str, workers: WorkerPool
) -> list[dict[str, Any]]:
    """Returns the results of the export strategies in order, up to the first that passes."""
    tried: list[dict[str, Any]] = []
    for way in sorted(find_target(target).ways, key=lambda way: way != served):
        tried.append(_try_way(way, given, target, folder, workers))
        if is_judged(tried[-1]):
            break
    return tried


def _try_with_precomputed_inputs(
    given: dict[str, Any], target: str, folder: str, workers: WorkerPool
) -> list[dict[str, Any]]:
    """Returns the result of an export where tensors that the model computes from Python sizes, such as positions, are inputs."""
    try:
        names = workers.get("pytorch").call(WORKER, "precompute", **given, folder=folder)["names"]
    except WorkerError:
        return []
    found = _try_way("transformers", given, target, folder, workers)
    return [{**found, "computed": names}]


_VERDICT_ORDER = [verdict.value for verdict in Verdict] + ["not exported"]


def _torch_export_refusal(
    tried: list[dict[str, Any]], given: dict[str, Any], folder: str, workers: WorkerPool
) -> dict[str, str]:
    """Returns why ``torch.export`` refuses the model, both called plainly and as transformers calls it.

    Empty if it accepts the model in one of these ways.
    """
    plain = {"dynamo" if one["way"] == "export" else one["way"]: one for one in tried}
    reasons = []
    for way in TORCH_EXPORT_WAYS:
        found = plain.get(way)
        if found is not None and found["verdict"] != "not exported":
            return {}
        if found is not None and found["reason"].startswith(TORCH_EXPORT_ERRORS):
            reasons.append(found["reason"])
            continue
        try:
            workers.get("pytorch").call(
                WORKER, "check_torch_export", **given, way=way, folder=folder
            )
        except WorkerError as error:
            reasons.append(summarize_worker_error(error))
        else:
            return {}
    return {"refused": reasons[0]}


def _try_way(
    way: str, given: dict[str, Any], target: str, folder: str, workers: WorkerPool
) -> dict[str, Any]:
    """Exports a model with one strategy, runs the program and returns the verdict."""
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
    verdict, reason = _judge_program(Path(folder), about.kinds)
    notes = {"notes": made["notes"]} if made["notes"] else {}
    fields = {"reason": reason, "seconds": seconds, **ran, **notes}
    return {"way": way, "verdict": verdict.value, **fields}


def _judge_program(folder: Path, kinds: tuple[str, ...]) -> tuple[Verdict, str]:
    """Returns the worst verdict over both batches and all runs of the program, with its reason."""
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
