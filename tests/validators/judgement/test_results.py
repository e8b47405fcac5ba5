"""The verdict on a backend from those on its cases."""

from __future__ import annotations

import pytest

from equipoise.validators.judgement.results import (
    BackendResult,
    CaseMetrics,
    OutputMetrics,
    Verdict,
)


def case(verdict: Verdict | None, failure: str = "") -> CaseMetrics:
    outputs = () if verdict is None else (OutputMetrics("logits", verdict, ""),)
    return CaseMetrics("single", outputs, failure=failure)


@pytest.mark.parametrize(
    ("cases", "failure", "expected"),
    [
        ([case(Verdict.IDENTICAL), case(Verdict.WITHIN_NOISE)], "", Verdict.WITHIN_NOISE),
        ([case(Verdict.IDENTICAL), case(None, "crashed")], "crashed", Verdict.FAILED),
        # A crash at one size does not hide that another size is wrong: exit code 1 and not 3.
        ([case(Verdict.DIVERGED), case(None, "crashed")], "crashed", Verdict.DIVERGED),
        ([case(Verdict.DECISION_SAFE), case(None, "crashed")], "crashed", Verdict.FAILED),
        ([], "did not load", Verdict.FAILED),
    ],
)
def test_verdict_of_a_backend(cases: list[CaseMetrics], failure: str, expected: Verdict) -> None:
    assert BackendResult("onnx", "onnx", cases=tuple(cases), failure=failure).verdict is expected
