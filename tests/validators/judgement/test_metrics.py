"""Error metrics agree with values computed by hand."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from equipoise.validators.core.tolerance import DEFAULTS
from equipoise.validators.judgement.metrics import (
    is_identical,
    measure_error,
    ulp_sizes,
    unit_roundoff,
)
from equipoise.validators.judgement.results import OutputMetrics, Verdict
from equipoise.validators.judgement.verdict import NO_FINITE_VALUES, judge_output, kl_divergence


@pytest.mark.parametrize(
    ("precision", "bits"), [("float64", 53), ("float32", 24), ("float16", 11), ("bfloat16", 8)]
)
def test_epsilon_and_steps(precision: str, bits: int) -> None:
    """Epsilon and ULPs of every precision that can be under test."""
    assert unit_roundoff(precision) == 2.0**-bits
    found = ulp_sizes(np.array([1.0, -3.0, 0.25]), precision)
    assert found.tolist() == [2.0 ** (1 - bits), 2.0 ** (2 - bits), 2.0 ** (-1 - bits)]


def test_distance_by_hand() -> None:
    truth = np.array([4.0, -2.0, 0.001])
    found = measure_error(np.array([4.5, -2.0, 0.002]), truth, precision="float32")
    assert found.count == 3
    assert found.max_abs == 0.5
    assert found.rms == pytest.approx(math.sqrt((0.25 + 1e-6) / 3))
    assert found.max_rel == 0.125  # the third is too small to count
    assert found.ulp == pytest.approx(
        0.001 / 2.0**-33
    )  # it counts there, in the steps of a small value
    assert found.scale == pytest.approx(math.sqrt((16 + 4 + 1e-6) / 3))
    assert found.relative == pytest.approx(found.rms / found.scale)
    assert found.nonfinite == 0


def test_distance_in_bfloat16() -> None:
    """Rounding costs at most half a ULP, 2^-8 at 1."""
    truth = np.array([1.0 + 2.0**-8, 1.5])
    rounded = truth.astype(ml_dtypes.bfloat16)
    found = measure_error(rounded, truth, precision="bfloat16")
    assert (found.max_abs, found.ulp) == (2.0**-8, 0.5)


def test_infinities_and_nan() -> None:
    inf, nan = math.inf, math.nan
    found = measure_error(
        np.array([-inf, nan, inf, 1.0, nan]),
        np.array([-inf, nan, 1.0, 1.0, 2.0]),
        precision="float32",
    )
    assert (found.nonfinite, found.max_abs, found.count) == (2, 0.0, 5)


def test_identical_and_kl() -> None:
    zero = np.zeros(2, np.float32)
    assert is_identical(zero, zero.copy())
    assert not is_identical(zero, -zero)
    assert not is_identical(zero, zero.astype(np.float64))
    p, q = np.log([[0.75, 0.25]]), np.log([[0.5, 0.5]])
    assert kl_divergence(q, p) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert kl_divergence(p, p + 3.0) == pytest.approx(0.0, abs=1e-15)


def judge_equal_output(truth: np.ndarray, valid: np.ndarray | None = None) -> OutputMetrics:  # type: ignore[type-arg]
    """Judges an output that equals the reference bit by bit."""
    found = truth.astype(np.float32)
    about = {"precision": "float32", "tolerance": DEFAULTS["float32"]}
    return judge_output("logits", found, found, truth, valid=valid, **about)  # type: ignore[arg-type]


def test_only_nan_proves_nothing() -> None:
    """Outputs that are all NaN are equal but prove nothing."""
    empty = np.full((2, 3), math.nan)
    assert (judge_equal_output(empty).verdict, judge_equal_output(empty).reason) == (
        Verdict.FAILED,
        NO_FINITE_VALUES,
    )
    assert judge_equal_output(-np.full((2, 3), math.inf)).verdict is Verdict.FAILED
    part = np.array([[math.nan, 1.0], [-math.inf, 2.0]])
    assert judge_equal_output(part).verdict is Verdict.IDENTICAL
    assert judge_equal_output(np.zeros((0, 3))).verdict is Verdict.IDENTICAL


def test_nan_in_masked_positions_is_ignored() -> None:
    rows = np.array([[math.nan, math.nan], [1.0, 2.0]])
    assert judge_equal_output(rows, np.array([False, True])).verdict is Verdict.IDENTICAL
    assert judge_equal_output(rows, np.array([True, False])).verdict is Verdict.FAILED
