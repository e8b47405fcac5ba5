"""Measures one fixture on all its backends over many draws of the inputs: the worker of ``false_alarms.py``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert.core.errors import EquipoiseError
from equipoise.fleet.running.worker_loop import Tell, serve
from equipoise.validators.core.request import Request
from equipoise.validators.core.types import Batch
from equipoise.validators.evaluation.context import EvaluationContext, prepare_context
from equipoise.validators.evaluation.evaluate import evaluate_backend, open_auditor
from equipoise.validators.evaluation.locate import locate_divergence
from equipoise.validators.judgement.results import PASSING_VERDICTS, BackendResult
from equipoise.validators.matrix import find_programs
from equipoise.validators.models.sources import resolve_artifact
from equipoise.validators.report.summary import first_line
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.validate import open_reference, run_validation

CASES = ("batch", "batch-cache")
TIME_LIMIT_SECONDS = 900
"""Time limit for one request to a backend's process."""
VARIATIONS: Mapping[str, Mapping[str, Any]] = {
    "two threads": {"threads": 2},
    "no optimizer": {"optimize": False},
}
"""How programs run again: other threads, or (ONNX Runtime alone) no optimization of the graph."""


def main() -> None:
    """Answers requests; the processes of backends stay warm."""
    with ExitStack() as stack:

        @cache
        def pool(oracle: str) -> WorkerPool:
            interpreters = {"oracle": oracle} if oracle else {}
            return stack.enter_context(WorkerPool(interpreters, time_limit=TIME_LIMIT_SECONDS))

        def run(arguments: list[str], tell: Tell) -> int:
            _, model, _, seeds, programs, oracle = arguments
            tell(model)
            try:
                rows = measure_fixture(
                    Path(model), int(seeds), Path(programs) if programs else None, pool(oracle)
                )
            except EquipoiseError as error:
                name = Path(model).name
                rows = [{"fixture": name, "backend": "pytorch", "failure": error.message}]
            print(json.dumps({"rows": rows}))
            return 0

        serve(run)


def measure_fixture(
    model: Path, seeds: int, programs: Path | None, workers: WorkerPool
) -> list[dict[str, Any]]:
    """Returns the figures of one fixture on all its backends."""
    name = model.name
    artifacts = find_programs(programs / name) if programs else []
    request = Request(model, artifacts=artifacts, divergence=False)
    with tempfile.TemporaryDirectory(prefix="equipoise-") as scratch:
        context = prepare_context(request, workers, Path(scratch))
        chosen = [one for one in context.batches if one.case.name in CASES] or context.batches[-1:]
        drawn = [vary_batch(batch, seed) for seed in range(seeds) for batch in chosen]
        context = replace(context, batches=tuple(drawn))
        found = run_validation(context)
        rows = [summarize_result(name, result) for result in found.backends if not result.absent]
        return [*rows, *measure_variations(name, context)]


def measure_variations(name: str, context: EvaluationContext) -> list[dict[str, Any]]:
    """Returns the figures of programs that run on other threads and without optimization."""
    rows = []
    with open_reference(context) as reference:
        measured = reference.measure(context.batches)
        auditor = open_auditor(context)
        for path in context.request.artifacts:
            for label, options in VARIATIONS.items():
                source = resolve_artifact(path)
                if "optimize" in options and source.backend != "onnx":
                    continue
                source = replace(source, options={**source.options, **options})
                result = evaluate_backend(
                    context, source, measured, reference, auditor, locate_divergence
                )
                rows.append({**summarize_result(name, result), "variation": label})
    return rows


def vary_batch(batch: Batch, seed: int) -> Batch:
    """Returns the batch with inputs that are varied by a seed."""
    random = np.random.default_rng(seed)
    arrays = {name: value.copy() for name, value in batch.arrays.items()}
    for name, value in arrays.items():
        if value.dtype.kind == "f":
            noise = 0.1 * value.std() * random.standard_normal(value.shape)
            arrays[name] = (value + noise).astype(value.dtype)
    ids = arrays.get("input_ids")
    mask = arrays.get("attention_mask", None if ids is None else np.ones_like(ids))
    if ids is not None and mask is not None and mask.shape == ids.shape:
        for line, kept in zip(ids, mask, strict=True):
            inner = np.flatnonzero(kept)[1:-1]
            line[inner] = line[random.permutation(inner)]
    case = replace(batch.case, name=f"{batch.case.name} {seed}")
    return replace(batch, case=case, arrays=arrays)


def summarize_result(name: str, result: BackendResult) -> dict[str, Any]:
    """Returns the number of draws, the alarms, and how close to the tolerance the other outputs came."""
    ratios: list[float] = []
    alarms = []
    for case in result.cases:
        if case.verdict not in PASSING_VERDICTS:
            reason = first_line(case.failure) or [one.reason for one in case.outputs]
            alarms.append(f"{case.case}: {reason}"[:300])
        for output in case.outputs:
            if output.ratio is not None:
                ratios.append(output.ratio)
    return {
        "fixture": name,
        "backend": result.backend,
        "draws": len(result.cases),
        "alarms": alarms,
        "failure": first_line(result.failure),
        "ratio": max(ratios, default=0.0),
        "median": float(np.median(ratios)) if ratios else 0.0,
    }


if __name__ == "__main__":
    main()
