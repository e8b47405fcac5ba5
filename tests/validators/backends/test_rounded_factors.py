"""PyTorch with factors of matrix products rounded to fewer bits, against NumPy and ml_dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from equipoise.validators.backends._rounded_factors import rounded_factors_mode

Array = np.ndarray[Any, Any]


def tf32(values: Array) -> Array:
    """Keeps eleven significant bits; ties to even, as ``np.rint`` has it."""
    mantissa, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 2048) / 2048, exponent).astype(np.float32)


def bfloat16(values: Array) -> Array:
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


ROUNDINGS: dict[str, Callable[[Array], Array]] = {"tf32": tf32, "bfloat16": bfloat16}


@pytest.mark.parametrize("precision", ROUNDINGS)
def test_factors_are_rounded(precision: str) -> None:
    draws = np.random.default_rng(0)
    a, b = (draws.standard_normal((5, 5)).astype(np.float32) for _ in range(2))
    a[0] = [1 + 2**-11, 1 + 3 * 2**-11, -1e-30, 65519.0, 3e38]
    bias = torch.full((5,), 1 + 2**-20)
    ours, identity = torch.from_numpy(a), torch.eye(5)
    with rounded_factors_mode(precision):
        results = {
            "linear": torch.nn.functional.linear(ours, identity, bias) - bias,
            "matmul": ours @ identity,
            "addmm": torch.addmm(bias, identity, ours) - bias,
            "bmm": torch.bmm(ours[None], identity[None])[0],
            "product": ours @ torch.from_numpy(b),
            "sum": ours + 0,
        }
    rounded = ROUNDINGS[precision](a)
    assert np.array_equal(results["matmul"], rounded)
    assert np.array_equal(results["bmm"], rounded)
    for name in ("linear", "addmm"):
        # The bias is added unrounded: it differs from its rounding by more than this.
        assert np.allclose(results[name][1:], rounded[1:], atol=3e-7, rtol=0)
    product = rounded[1:].astype(np.float64) @ ROUNDINGS[precision](b).astype(np.float64)
    assert np.allclose(results["product"][1:], product, atol=1e-5, rtol=0)
    assert np.array_equal(results["sum"], a), "only factors are rounded"


def test_infinity_and_nan_stay() -> None:
    values = torch.tensor([[np.inf, 0.0], [-np.inf, np.nan]])
    with rounded_factors_mode("tf32"):
        result = torch.nn.functional.conv1d(values[:, None, :1], torch.ones(1, 1, 1))
    assert result.flatten().tolist() == [np.inf, -np.inf]
