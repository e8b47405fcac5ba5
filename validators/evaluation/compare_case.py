"""Compares outputs of one case with those of the reference."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.core.request import Request
from equipoise.validators.core.types import Arrays, Decision
from equipoise.validators.evaluation.context import ReferenceOutputs
from equipoise.validators.judgement.results import CaseMetrics
from equipoise.validators.judgement.verdict import judge_case


def compare_case(
    request: Request,
    expected: ReferenceOutputs,
    outputs: Arrays,
    own: Sequence[Decision],
    required: frozenset[str] | None = None,
    quantized: str = "",
) -> CaseMetrics:
    """Compares outputs with those of the reference, at the precision and tolerance of a request.

    Args:
        request: What was asked for.
        expected: The case, on the reference.
        outputs: The outputs to compare.
        own: Decisions read off them.
        required: Outputs that must be present; None requires all of the reference.
        quantized: What quantized the weights of the program; empty for floats.
    """
    return judge_case(
        expected.batch.case.name,
        outputs,
        expected.reference,
        expected.truth,
        valid=expected.batch.valid,
        precision=request.rounding,
        tolerance=request.allowed_for(quantized),
        decisions=expected.decisions,
        own=own,
        required=required,
        noises=expected.noises,
    )
