"""Integers of a few bits, packed into integers of 32."""

from __future__ import annotations

import numpy as np

from equipoise.convert.core.arrays import Array


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
