"""Rounds float64 to a narrower type once."""

from __future__ import annotations

import numpy as np

from equipoise.convert.core.arrays import Array, DType


def round_once(values: Array, dtype: DType) -> Array:
    """Rounds float64 to a dtype, to the nearest, ties to even, without an intermediate rounding.

    ml_dtypes converts float64 by way of float32, which rounds twice: 1 + 2**-8 + 2**-40 lies above the tie between 1 and
    1.0078125 in bfloat16, and would become 1.

    >>> import ml_dtypes
    >>> value = np.array([1 + 2**-8 + 2**-40])
    >>> float(value.astype(ml_dtypes.bfloat16)[0]), float(round_once(value, np.dtype(ml_dtypes.bfloat16))[0])
    (1.0, 1.0078125)
    """
    if dtype.itemsize > 2 or dtype == np.float16:
        return values.astype(dtype)
    single = values.astype(np.float32)
    inexact = (single != values) & np.isfinite(single)
    # Rounding to odd keeps in the last bit that something was cut off, so that the second rounding sees it.
    bits = single.view(np.uint32)
    away = inexact & (np.abs(single) > np.abs(values))
    bits = np.where(inexact, (bits - away) | 1, bits).astype(np.uint32)
    return bits.view(np.float32).astype(dtype)
