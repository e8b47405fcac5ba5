"""Tensors that are computed in float64, some rows at a time, and rounded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.arrays import Array, DType
from equipoise.convert.core.tensor import TensorRef, array_blocks

BLOCK_ELEMENTS = 1 << 20
"""How many elements are computed at a time."""

RowReader = Callable[[int, int], Array]
"""Returns some rows of a tensor, from a first to a last that is excluded, as float64 of shape ``[rows, ...]``."""


@dataclass(frozen=True)
class ComputedRef(TensorRef):
    """A tensor that is computed where it is read.

    Attributes:
        open_rows: Reads what the tensor is computed from; returns what computes rows.
    """

    open_rows: Callable[[], RowReader] | None = None

    def read(self) -> Array:
        """Computes the tensor."""
        out = np.empty(self.shape, self.dtype)
        for start, rows in self._rows():
            out[start : start + len(rows)] = rows
        return out

    def blocks(self) -> Iterator[memoryview]:
        """Yields the bytes in C order, in blocks of rows."""
        for _, rows in self._rows():
            yield from array_blocks(rows)

    def _rows(self) -> Iterator[tuple[int, Array]]:
        assert self.open_rows is not None
        read_rows = self.open_rows()
        step = max(1, BLOCK_ELEMENTS * self.shape[0] // max(1, self.size))
        for start in range(0, self.shape[0], step):
            yield start, round_once(read_rows(start, min(start + step, self.shape[0])), self.dtype)


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
