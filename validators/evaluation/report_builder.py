"""Builds the report of a validation from the outputs of the reference and the results of backends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from equipoise.validators.core.types import Batch
from equipoise.validators.evaluation.compare_case import compare_case
from equipoise.validators.evaluation.context import EvaluationContext, ReferenceOutputs
from equipoise.validators.evaluation.golden import Golden
from equipoise.validators.evaluation.host import describe_host
from equipoise.validators.evaluation.reference import ReferenceModels
from equipoise.validators.evaluation.rerun_command import rerun_command
from equipoise.validators.judgement.results import (
    BackendResult,
    CaseMetrics,
    Report,
    to_json_value,
)


def build_report(
    context: EvaluationContext,
    reference: ReferenceModels | Golden,
    measured: Sequence[ReferenceOutputs],
    results: Sequence[BackendResult],
) -> Report:
    """Returns the report."""
    request = context.request
    return Report(
        model=str(request.model),
        model_type=context.model.model_type,
        class_name=context.class_name,
        task=context.task.name,
        precision=request.precision,
        device=request.device,
        tolerance=request.allowed,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe_host(),
        samples=_samples(context.batches),
        reference=reference_row(context, reference, measured),
        backends=tuple(results),
        command=rerun_command(request, context.task.name, context.pool.interpreters),
    )


def _samples(batches: Sequence[Batch]) -> tuple[Any, ...]:
    """Returns the samples of all cases, each once, as plain data."""
    found = [to_json_value(dict(sample)) for batch in batches for sample in batch.case.samples]
    return tuple(one for index, one in enumerate(found) if one not in found[:index])


def reference_row(
    context: EvaluationContext,
    reference: ReferenceModels | Golden,
    measured: Sequence[ReferenceOutputs],
) -> BackendResult:
    """Returns the reference as a row of the report; its error is the noise."""
    first = measured[0]
    golden = context.request.against_golden
    row = BackendResult(
        backend="pytorch",
        label="pytorch (reference)",
        origin="kept" if golden else context.pytorch.origin,
        source=str(golden or context.pytorch.path),
        cases=tuple(_reference_metrics(context, one) for one in measured),
        seconds=sum(sum(one.seconds) for one in measured),
        answers=tuple(context.task.decode(context.model, first.batch, first.reference)),
        notes=_notes_on_cases(context, measured),
    )
    if isinstance(reference, Golden):
        return replace(row, notes=(*row.notes, *reference.notes))
    runner, hello = reference.describe()
    return replace(
        row,
        about=runner.model.about,
        versions=hello["versions"],
        peak_bytes=runner.stats.peak_bytes,
    )


def _notes_on_cases(
    context: EvaluationContext, measured: Sequence[ReferenceOutputs]
) -> tuple[str, ...]:
    """Returns what the cases do not reach, and which of them did not fit into the budget."""
    ran = {one.batch.case.name: one.batch.case for one in measured}
    left_out = [one.case.name for one in context.batches if one.case.name not in ran]
    limits = (f"{name}: {case.note}" for name, case in ran.items() if case.note)
    return (*limits, *context.budget.describe(left_out if context.budget.seconds else []))


def _reference_metrics(context: EvaluationContext, one: ReferenceOutputs) -> CaseMetrics:
    metrics = compare_case(context.request, one, one.reference, one.decisions)
    return replace(metrics, seconds=one.seconds)
