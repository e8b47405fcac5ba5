"""Finds NaN and infinity in weights."""

from __future__ import annotations

import numpy as np

from equipoise.convert.core.arrays import Array, bits
from equipoise.convert.core.tensor import is_floating
from equipoise.validators.audit.content.report import NonFiniteWeight, format_ranges

_EXPONENTS = {
    "float16": 0x7C00,
    "bfloat16": 0x7F80,
    "float32": 0x7F800000,
    "float64": 0x7FF0000000000000,
}
"""Bits of the exponent, which are all set in NaN and infinity."""


def find_non_finite(side: str, name: str, array: Array) -> NonFiniteWeight | None:
    """Returns how many values of a weight are NaN or infinite, and where; None if all are finite.

    Args:
        side: ``program`` or ``source``.
        name: The weight's name there.
        array: Its values.
    """
    if not is_floating(array.dtype) or not _may_be_non_finite(array):
        return None
    values = array.astype(np.float64)
    nan, infinite = np.isnan(values), np.isinf(values)
    if not nan.any() and not infinite.any():
        return None
    rows = ""
    if array.ndim > 1:
        others = tuple(range(1, array.ndim))
        rows = format_ranges(np.flatnonzero((nan | infinite).any(axis=others)))
    return NonFiniteWeight(side, name, int(nan.sum()), int(infinite.sum()), rows)


def _may_be_non_finite(array: Array) -> bool:
    """Whether the exponent of some element has all bits set; other dtypes than the usual ones are looked at in full."""
    mask = _EXPONENTS.get(array.dtype.name)
    if mask is None:
        return True
    own = bits(array).reshape(-1)
    block = 1 << 18
    limit = own.dtype.type(mask)
    return any(
        bool(((own[start : start + block] & limit) == limit).any())
        for start in range(0, own.size, block)
    )
