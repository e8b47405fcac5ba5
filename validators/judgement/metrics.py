"""How far one array is from another: the figures of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.validators.core.types import Array, log_softmax

TF32 = "tf32"
"""The precision of float32 products whose factors are rounded to TensorFloat-32."""


@dataclass(frozen=True)
class Distance:
    """How far values are from a truth.

    Attributes:
        count: How many values were compared.
        max_abs: Largest absolute difference.
        rms: Root of the mean squared difference.
        max_rel: Largest relative difference, over values of at least a thousandth of the largest one; below
            that, relative differences say nothing.
        ulp: Largest difference in steps of the precision at the truth's magnitude.
        cosine: Cosine similarity of all values together.
        scale: Root of the mean square of the truth.
        nonfinite: How many values are NaN or infinite where the truth is not, or the other way round.
    """

    count: int
    max_abs: float
    rms: float
    max_rel: float
    ulp: float
    cosine: float
    scale: float
    nonfinite: int

    @property
    def relative(self) -> float:
        """``rms`` as a part of the truth's own; the error of an output as a whole."""
        return self.rms / self.scale if self.scale else (0.0 if self.rms == 0 else float("inf"))


def distance(found: Array, truth: Array, *, precision: str) -> Distance:
    """Compares arrays of one shape in float64.

    Args:
        found: The values.
        truth: What they should be; of any float dtype.
        precision: The float dtype whose steps ``ulp`` counts.
    """
    a, b = found.astype(np.float64).ravel(), truth.astype(np.float64).ravel()
    same = (a == b) | (
        np.isnan(a) & np.isnan(b)
    )  # infinities of masks are equal, their difference is not 0
    finite = np.isfinite(a) & np.isfinite(b)
    nonfinite = int((~finite & ~same).sum())
    a, b = a[finite], b[finite]
    if not a.size:
        return Distance(found.size, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, nonfinite)
    error = np.abs(a - b)
    largest = np.abs(b).max()
    notable = np.abs(b) >= largest / 1000
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = error[notable] / np.abs(b[notable]) if largest else np.zeros(1)
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return Distance(
        count=found.size,
        max_abs=float(error.max()),
        rms=root_mean_square(error),
        max_rel=float(relative.max()),
        ulp=float((error / steps(b, precision)).max()),
        cosine=float(a @ b / norms) if norms else float(not error.any()),
        scale=root_mean_square(b),
        nonfinite=nonfinite,
    )


def steps(values: Array, precision: str) -> Array:
    """The distance from each value to the next one of a precision, subnormals aside."""
    info = _limits(precision)
    magnitude = np.maximum(np.abs(values), float(info.tiny))
    exponent = np.floor(np.log2(magnitude))
    return np.asarray(np.exp2(exponent) * float(info.eps))


def epsilon(precision: str) -> float:
    """Half a unit in the last place at 1: the largest relative error of one rounding.

    TensorFloat-32 keeps ten bits of a factor's fraction.
    """
    if precision == TF32:
        return 2.0**-11
    return float(_limits(precision).eps) / 2


def _limits(precision: str) -> Any:
    """What numpy knows of its own dtypes alone."""
    import ml_dtypes

    if precision == TF32:
        return np.finfo(np.float32)
    if precision == "bfloat16":
        return ml_dtypes.finfo(ml_dtypes.bfloat16)  # type: ignore[no-untyped-call]
    return np.finfo(np.dtype(precision))


def root_mean_square(values: Array) -> float:
    """Without overflow for large values."""
    largest = float(np.abs(values).max(initial=0.0))
    if not largest or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.mean(np.square(values / largest))))


def kl_divergence(found: Array, truth: Array) -> float:
    """Largest Kullback-Leibler divergence KL(truth || found), in nats, of the last axis' distributions.

    >>> kl_divergence(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]]))
    0.0
    """
    p, q = log_softmax(truth), log_softmax(found)
    with np.errstate(invalid="ignore"):
        terms = np.where(np.exp(p) > 0, np.exp(p) * (p - q), 0.0)
    return float(np.nan_to_num(terms.sum(axis=-1), nan=np.inf).max(initial=0.0))


def identical(found: Array, expected: Array) -> bool:
    """Whether two arrays have the same dtype, shape and bits."""
    return (
        found.dtype == expected.dtype
        and found.shape == expected.shape
        and found.tobytes() == expected.tobytes()
    )
