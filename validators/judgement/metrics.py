"""Measures how far one array is from another, and whether noise explains it.

>>> from dataclasses import replace
>>> noise = ErrorMetrics(100, 4e-7, 1e-7, 0.0, 0.0, 1.0, 1.0, 0)
>>> error = ErrorMetrics(100, 1e-6, 3e-7, 0.0, 0.0, 1.0, 1.0, 0)
>>> within_noise(error, noise, "float32", Tolerance())
True
>>> within_noise(replace(error, rms=2e-5, max_abs=1e-4), noise, "float32", Tolerance())
False
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.validators.core.precision import TF32
from equipoise.validators.core.tolerance import Tolerance
from equipoise.validators.core.types import Array, ErrorMetrics


def measure_error(found: Array, truth: Array, *, precision: str) -> ErrorMetrics:
    """Compares arrays of one shape in float64.

    Values that are infinite or NaN on both sides are equal (attention masks contain infinities).

    Args:
        found: The values.
        truth: What they should be, of any float dtype.
        precision: The float dtype whose units in the last place are counted.
    """
    a, b = found.astype(np.float64).ravel(), truth.astype(np.float64).ravel()
    nonfinite = 0
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.all():
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        nonfinite = int((~finite & ~same).sum())
        a, b = a[finite], b[finite]
    if not a.size:
        return ErrorMetrics(found.size, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, nonfinite)
    error, magnitude = np.abs(a - b), np.abs(b)
    largest = magnitude.max()
    notable = magnitude >= largest / 1000
    relative = (error[notable] / magnitude[notable]).max() if largest else 0.0
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return ErrorMetrics(
        count=found.size,
        max_abs=float(error.max()),
        rms=root_mean_square(error),
        max_rel=float(relative),
        ulp=float((error / ulp_sizes(magnitude, precision)).max()),
        cosine=float(a @ b / norms) if norms else float(not error.any()),
        scale=root_mean_square(magnitude),
        nonfinite=nonfinite,
    )


@dataclass(frozen=True)
class NoiseFloor:
    """The noise that errors are compared with.

    Attributes:
        rms: Root mean square.
        max_abs: Largest absolute value.
    """

    rms: float
    max_abs: float

    def limits(self, tolerance: Tolerance, scale: float) -> tuple[float, float]:
        """Returns the largest root mean square error and the largest single error that are within noise."""
        allowed = tolerance.atol + tolerance.rtol * scale
        rms_limit = max(tolerance.rms_factor * self.rms, allowed)
        return rms_limit, max(tolerance.max_factor * self.max_abs, allowed)


def noise_floor(
    noises: Sequence[ErrorMetrics], precision: str, tolerance: Tolerance, scale: float = 0.0
) -> NoiseFloor:
    """Returns the largest of several noises, but at least a few roundings of the output's scale."""
    rounding = tolerance.floor * unit_roundoff(precision) * max(noises[0].scale, scale)
    rms = max(noise.rms for noise in noises)
    return NoiseFloor(max(rms, rounding), max(*(noise.max_abs for noise in noises), 2 * rounding))


def within_noise(
    error: ErrorMetrics, noise: ErrorMetrics, precision: str, tolerance: Tolerance
) -> bool:
    """Checks whether the reference's own noise explains an error."""
    floor = noise_floor([noise], precision, tolerance)
    rms_limit, max_limit = floor.limits(tolerance, error.scale)
    return not error.nonfinite and error.rms <= rms_limit and error.max_abs <= max_limit


def noise_ratio(
    error: ErrorMetrics, noise: ErrorMetrics, precision: str, tolerance: Tolerance
) -> float | None:
    """Returns an error over the noise that it is compared with, both as root mean square; None if both are zero."""
    floor = noise_floor([noise], precision, tolerance)
    return error.rms / floor.rms if floor.rms else None


def ulp_sizes(values: Array, precision: str) -> Array:
    """Returns the distance from each value to the next one of a precision, ignoring subnormal numbers."""
    info = _finfo(precision)
    _, exponent = np.frexp(np.maximum(np.abs(values), float(info.tiny)))
    return np.asarray(np.ldexp(float(info.eps), exponent - 1))


def unit_roundoff(precision: str) -> float:
    """Returns half a unit in the last place at 1: the largest relative error of one rounding.

    TensorFloat-32 keeps ten bits of a factor's fraction.

    >>> unit_roundoff("float32") == 2.0**-24, unit_roundoff("tf32") == 2.0**-11
    (True, True)
    """
    if precision == TF32:
        return 2.0**-11
    return float(_finfo(precision).eps) / 2


def _finfo(precision: str) -> Any:
    """Returns the limits of a float dtype; NumPy itself does not know bfloat16."""
    import ml_dtypes

    if precision == TF32:
        return np.finfo(np.float32)
    if precision == "bfloat16":
        return ml_dtypes.finfo(ml_dtypes.bfloat16)  # type: ignore[no-untyped-call]
    return np.finfo(np.dtype(precision))


def root_mean_square(values: Array) -> float:
    """Returns the root mean square without overflow for large values."""
    largest = float(np.abs(values).max(initial=0.0))
    if not largest or not np.isfinite(largest):
        return largest
    scaled = (values / largest).ravel()
    return largest * float(np.sqrt(scaled @ scaled / scaled.size))


def is_identical(found: Array, expected: Array) -> bool:
    """Checks whether two arrays have the same dtype, shape and bits."""
    return (
        found.dtype == expected.dtype
        and found.shape == expected.shape
        and found.tobytes() == expected.tobytes()
    )
