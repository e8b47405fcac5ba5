"""Integers of a few bits, packed into integers of 32; numbers rounded once."""

from __future__ import annotations

import numpy as np

from equipoise.convert.core.arrays import Array, DType


def unpack_integers(packed: Array, bits: int, count: int) -> Array:
    """Returns the unsigned integers that are packed along the last axis, lowest bits first, as uint8.

    Value ``k`` takes the bits ``k * bits`` to ``(k + 1) * bits - 1`` of the row, as in GPTQ and compressed-tensors; with 3 bits a
    value may lie in two integers.

    >>> unpack_integers(np.array([[0x76543210]], np.int32), 4, 8)
    array([[0, 1, 2, 3, 4, 5, 6, 7]], dtype=uint8)

    Args:
        packed: int32, shape ``[..., words]``.
        bits: Bits of a value, 1 to 8.
        count: How many values there are; the rest of the last word is unused.

    Returns:
        Shape ``[..., count]``.
    """
    stored = np.ascontiguousarray(packed.astype("<i4", copy=False)).view(np.uint8)
    stream = np.unpackbits(stored, axis=-1, bitorder="little")[..., : count * bits]
    columns = stream.reshape(*packed.shape[:-1], count, bits)
    return np.packbits(columns, axis=-1, bitorder="little")[..., 0]


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
