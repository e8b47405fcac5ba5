"""Counts false alarms of the validator: every trained fixture, every backend, many random variations of the inputs.

    python benchmarks/false_alarms.py [--seeds 20] [--oracle PYTHON] [--programs FOLDER] [NAME ...]

A seed shuffles the tokens of a sample (special tokens and padding stay) and adds 10 % noise to images and audio. Programs run
again with two threads, and ONNX Runtime without its optimizer. A fixture that was measured is not measured again while its
file in ``.cache/alarms`` is there.
``--programs`` is the output folder of ``benchmarks/export_fixtures.py``. The figures go to
``benchmarks/results/false-alarms.json`` and ``.md`` (``--name`` gives others); the factors of ``validators/core/tolerance.py`` are based on them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert.core.errors import EquipoiseError
from equipoise.validators.core.request import Request
from equipoise.validators.core.types import Batch
from equipoise.validators.evaluation import host
from equipoise.validators.evaluation.context import EvaluationContext, prepare_context
from equipoise.validators.evaluation.evaluate import evaluate_backend, open_auditor
from equipoise.validators.evaluation.locate import locate_divergence
from equipoise.validators.judgement.results import PASSING_VERDICTS, BackendResult
from equipoise.validators.matrix import find_programs
from equipoise.validators.models.sources import resolve_artifact
from equipoise.validators.report.summary import first_line
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.validate import open_reference, run_validation

HERE = Path(__file__).parent
TASKS = HERE.parent / "fixtures" / "tasks"
CASES = ("batch", "batch-cache")

CACHE = HERE.parent / ".cache" / "alarms"
VARIATIONS: Mapping[str, Mapping[str, Any]] = {
    "two threads": {"threads": 2},
    "no optimizer": {"optimize": False},
}
"""How programs run again: other threads, or (ONNX Runtime alone) no optimization of the graph."""

KNOWN_DIFFERENCES = {
    (
        "mask-generation",
        "tensorflow",
    ): "TFSam has an epsilon of 1e-6 in layer_norm_final_attn where SAM has 1e-5",
}
"""Known real differences by fixture and backend: these are findings, not false alarms."""


def main() -> None:
    """Runs all fixtures and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--oracle")
    parser.add_argument("--programs", type=Path)
    parser.add_argument("--name", default="false-alarms", help="of the files with the results")
    given = parser.parse_intermixed_args()
    names = given.names or sorted(path.parent.name for path in TASKS.glob("*/samples.json"))
    rows: list[dict[str, Any]] = []
    with WorkerPool({"oracle": given.oracle} if given.oracle else {}, time_limit=900) as workers:
        for name in names:
            kept = CACHE / f"{name}-{given.seeds}.json"
            if not kept.is_file():
                try:
                    found = measure_fixture(name, given.seeds, given.programs, workers)
                except EquipoiseError as error:
                    found = [{"fixture": name, "backend": "pytorch", "failure": error.message}]
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(found))
                print(json.dumps(found), flush=True)
            rows += json.loads(kept.read_text())
    write_results(rows, given.seeds, given.name)


def measure_fixture(
    name: str, seeds: int, programs: Path | None, workers: WorkerPool
) -> list[dict[str, Any]]:
    """Returns the figures of one fixture on all its backends."""
    artifacts = find_programs(programs / name) if programs else []
    request = Request(TASKS / name, artifacts=artifacts, divergence=False)
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


def write_results(rows: list[dict[str, Any]], seeds: int, name: str) -> None:
    """Writes the figures as JSON and as a Markdown page."""
    folder = HERE / "results"
    about = host.describe_host()
    for one in rows:
        one["known"] = is_known_difference(one)
    values = {
        "machine": about,
        "seeds": seeds,
        "variations": f"{seeds} seeds, one and two threads, and ONNX Runtime with and without its optimizer",
        "rows": rows,
    }
    (folder / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")
    backends: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in rows:
        variation = f", {one['variation']}" if one.get("variation") else ""
        backends[one["backend"] + variation].append(one)
    lines = [
        "# Alarms without a fault",
        "",
        f"{seeds} draws of the inputs of every trained fixture on every backend that has a form of it;",
        f"{about['processor']}, {about['cores']} cores. Ratio: rms error over the noise that it is held to.",
        "",
        "| backend | fixtures | draws | alarms | findings | failed | largest ratio | median |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for backend, some in backends.items():
        ran = [one for one in some if one.get("draws")]
        lines.append(
            f"| {backend} | {len(ran)} | {sum(one['draws'] for one in ran)} "
            f"| {sum(len(one['alarms']) for one in ran if not is_known_difference(one) and not one['failure'])} "
            f"| {len({one['fixture'] for one in some if is_known_difference(one)})} "
            f"| {sum(bool(one['failure']) for one in some if not is_known_difference(one))} "
            f"| {max((one['ratio'] for one in ran if not is_known_difference(one)), default=0):.2f} "
            f"| {np.median([one['median'] for one in ran]) if ran else 0:.2f} |"
        )
    bad = [one for one in rows if one["failure"] or one.get("alarms")]
    lines += ["", *(f"- {one['fixture']} on {one['backend']}: {describe_row(one)}" for one in bad)]
    (folder / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n")


def is_known_difference(one: dict[str, Any]) -> bool:
    """Checks whether a row is a known real difference."""
    return (one["fixture"], one["backend"]) in KNOWN_DIFFERENCES


def describe_row(one: dict[str, Any]) -> str:
    """Returns the description of a row with alarms or a failure."""
    explained = KNOWN_DIFFERENCES.get((one["fixture"], one["backend"]))
    return f"finding: {explained}" if explained else one["failure"] or str(one["alarms"][:1])


if __name__ == "__main__":
    main()
