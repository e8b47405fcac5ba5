"""The verdict on outputs and cases written by hand: what each verdict asks for, and what is not compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from equipoise.validators.core.tolerance import DEFAULTS, Tolerance
from equipoise.validators.core.types import Decision
from equipoise.validators.judgement.metrics import measure_error, noise_floor
from equipoise.validators.judgement.results import (
    HISTOGRAM_EDGES,
    CaseMetrics,
    OutputMetrics,
    Verdict,
)
from equipoise.validators.judgement.verdict import judge_case, judge_output

Array = np.ndarray[Any, Any]
TRUTH = np.where(np.arange(64) % 2, 1.0, -1.0).reshape(32, 2)
NOISE = 2e-7
FIRST_ROWS = np.arange(32) < 4


def label(margin: float, value: str = "positive") -> Decision:
    return Decision("label", value, "logits", slice(None), np.full(32, margin))


def judge(error: Array | float, *, tolerance: Tolerance | None = None, **more: Any) -> Any:
    return judge_output(
        "logits",
        TRUTH + error,
        TRUTH + NOISE,
        TRUTH,
        precision="float32",
        tolerance=tolerance or DEFAULTS["float32"],
        **{"valid": None, "decisions": [label(1e-9)], **more},
    )


def judged_case(found: dict[str, Array], **more: Any) -> CaseMetrics:
    given: dict[str, Any] = {
        "reference": {"logits": TRUTH + NOISE},
        "truth": {"logits": TRUTH},
        "valid": {},
        "decisions": [label(0.5)],
        "own": [label(0.5)],
    }
    return judge_case(
        "single",
        found,
        precision="float32",
        tolerance=DEFAULTS["float32"],
        **{**given, **more},
    )


def test_two_orders_of_a_sum_differ() -> None:
    values = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    forward, backward = (np.add.accumulate(one)[-1] for one in (values, values[::-1]))
    assert forward != backward
    assert forward == pytest.approx(values.astype(np.float64).sum(), abs=1e-3)


def test_both_errors_must_be_within_the_tolerance() -> None:
    """One large error among many small ones keeps the rms small; many of one size keep the largest small."""
    one = np.zeros_like(TRUTH)
    one[7, 1] = 20 * NOISE
    assert judge(one).error.rms < 8 * NOISE
    assert judge(one).verdict is Verdict.DIVERGED
    assert judge(9 * NOISE).error.max_abs < 16 * NOISE
    assert judge(9 * NOISE).verdict is Verdict.DIVERGED
    one[7, 1] = 15 * NOISE
    assert judge(one).verdict is judge(7 * NOISE).verdict is Verdict.WITHIN_NOISE


def test_noise_is_the_largest_of_three_and_of_two_roundings() -> None:
    """A reference that is near the truth by luck does not make another backend wrong."""
    lucky, others = (
        measure_error(TRUTH + off, TRUTH, precision="float32") for off in (1e-9, 3 * NOISE)
    )
    tolerance = DEFAULTS["float32"]
    assert noise_floor([lucky], "float32", tolerance).rms == pytest.approx(2 * 2.0**-24)
    found = noise_floor([lucky, others, lucky], "float32", tolerance)
    assert (found.rms, found.max_abs) == pytest.approx((3 * NOISE, 3 * NOISE))
    perturbed = [TRUTH + 3 * NOISE, TRUTH - 2 * NOISE]
    assert judge(20 * NOISE).verdict is Verdict.DIVERGED
    assert judge(20 * NOISE, noises=perturbed).verdict is Verdict.WITHIN_NOISE


@pytest.mark.parametrize(
    ("error", "margin", "verdict"),
    [
        (0.009, 0.1, Verdict.DECISION_SAFE),
        (0.011, 0.1, Verdict.DIVERGED),  # beyond the ceiling of 1 %
        (0.009, 0.008, Verdict.DIVERGED),  # beyond the margin
    ],
)
def test_beyond_noise_margin_and_ceiling_decide(
    error: float, margin: float, verdict: Verdict
) -> None:
    assert judge(error, decisions=[label(margin)]).verdict is verdict
    int8 = DEFAULTS["int8"]
    assert judge(0.19, tolerance=int8, decisions=[label(0.5)]).verdict is Verdict.DECISION_SAFE
    assert judge(0.21, tolerance=int8, decisions=[label(0.5)]).verdict is Verdict.DIVERGED


def test_what_is_missing_or_not_finite_is_diverged() -> None:
    with_nan = TRUTH.copy()
    with_nan[3, 0] = np.nan
    for found in ({}, {"logits": TRUTH[:, :1]}, {"logits": with_nan}):
        assert judged_case(found).verdict is Verdict.DIVERGED
    assert judge(1e-3, decisions=[]).verdict is Verdict.DIVERGED  # no decision: nothing is safe


def test_a_decision_that_changed_is_a_divergence_beyond_noise_alone() -> None:
    other = [label(0.5, "negative")]
    far = judged_case({"logits": TRUTH + 1e-3}, decisions=[label(1e-4)], own=other)
    assert far.flips == ("label: positive -> negative",)
    assert far.verdict is Verdict.DIVERGED
    tie = judged_case({"logits": TRUTH + NOISE / 2}, decisions=[label(1e-9)], own=other)
    assert tie.flips
    assert tie.verdict is Verdict.WITHIN_NOISE
    safe = OutputMetrics("logits", Verdict.DECISION_SAFE, "")
    assert CaseMetrics("single", (safe,)).verdict is Verdict.DECISION_SAFE
    assert CaseMetrics("single", (safe,), flips=("label: A -> B",)).verdict is Verdict.DIVERGED


def test_identical_is_the_same_bits() -> None:
    assert judge(NOISE).verdict is Verdict.IDENTICAL
    assert judge(NOISE + 2.0**-50).verdict is Verdict.WITHIN_NOISE


def test_a_distance_of_the_user_is_allowed_in_addition() -> None:
    assert judge(1e-3).verdict is Verdict.DIVERGED
    for allowed in (Tolerance(atol=2e-3), Tolerance(rtol=2e-3)):
        assert judge(1e-3, tolerance=allowed).verdict is Verdict.WITHIN_NOISE
        assert judge(3e-3, tolerance=allowed).verdict is Verdict.DIVERGED


def test_padding_is_not_compared() -> None:
    error = np.where(FIRST_ROWS[:, None], 9.0, 0.0)
    assert judge(error).verdict is Verdict.DIVERGED
    assert judge(error, valid=~FIRST_ROWS).verdict is Verdict.WITHIN_NOISE


def test_a_few_wrong_values_are_a_few_bars_far_to_the_right() -> None:
    error = np.full_like(TRUTH, 3 * NOISE)
    error[5, 0] = 0.3
    counts = dict(zip(HISTOGRAM_EDGES, judge(error).errors, strict=True))
    assert {edge: count for edge, count in counts.items() if count} == {-7: 63, -1: 1}
    assert judge(-NOISE).errors == judge(NOISE).errors


def test_integers_are_compared_as_decisions_alone() -> None:
    ids = np.arange(6)
    sides = {"reference": {"ids": ids}, "truth": {"ids": ids}, "decisions": [], "own": []}
    assert judged_case({"ids": ids + 1}, **sides).outputs == ()


def test_outputs_that_need_not_be_there() -> None:
    sides = {name: {"logits": TRUTH, "text_model.pooled": TRUTH} for name in ("reference", "truth")}
    found = judged_case({"logits": TRUTH}, required=frozenset({"logits"}), **sides)
    assert [one.name for one in found.outputs] == ["logits"]
    assert judged_case({"logits": TRUTH}, **sides).verdict is Verdict.DIVERGED
