"""A quantized weight: the tensors that make it up, and a reference that reads it as floats, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.arrays import Array, DType
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.rounding import round_once
from equipoise.convert.core.tensor import TensorRef, array_blocks

BLOCK_ELEMENTS = 1 << 20
"""How many elements are computed at a time; the arithmetic is in float64."""

FLOATS = ("float32", "float16", "bfloat16", "float8_e8m0fnu", "float64")
"""Dtypes of scales."""

RowReader = Callable[[int, int], Array]
"""Returns some rows of the weight, from a first to a last that is excluded, as float64 of shape ``[rows, columns]``."""


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight matrix of a quantized checkpoint.

    Attributes:
        name: The name that the plain weight has, e.g. ``model.layers.0.mlp.up_proj.weight``.
        shape: Rows (outputs) and columns (inputs).
        parts: The tensors that make it up, by their names in the file.
        open: Reads the parts; returns what computes rows.
    """

    name: str
    shape: tuple[int, int]
    parts: Mapping[str, TensorRef]
    open: Callable[[], RowReader]


@dataclass(frozen=True)
class DequantizedRef(TensorRef):
    """A tensor that is computed from a quantized weight; rows are computed in float64 and rounded once.

    Attributes:
        weight: The quantized weight.
    """

    weight: QuantizedWeight | None = None

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
        assert self.weight is not None
        read_rows = self.weight.open()
        rows, columns = self.weight.shape
        step = max(1, BLOCK_ELEMENTS // max(1, columns))
        for start in range(0, rows, step):
            values = read_rows(start, min(start + step, rows))
            yield start, round_once(values, self.dtype)


def plain_ref(weight: QuantizedWeight, dtype: DType) -> DequantizedRef:
    """Returns the reference of a weight as floats."""
    file = next(iter(weight.parts.values())).file
    return DequantizedRef(weight.name, dtype, weight.shape, file, weight=weight)


def check_part(
    parts: Mapping[str, TensorRef], name: str, dtypes: tuple[str, ...], shape: tuple[int, ...]
) -> TensorRef:
    """Returns a part of a quantized weight.

    Args:
        parts: Tensors by name.
        name: The part.
        dtypes: The dtypes that it may have.
        shape: The shape that it must have.

    Raises:
        CheckpointError: It is missing, or has another dtype or shape.
    """
    ref = parts.get(name)
    if ref is None:
        other = next(iter(parts.values()))
        raise CheckpointError(
            f"a quantized weight lacks its part {name!r}", file=other.file, hint="download it again"
        )
    if ref.dtype.name not in dtypes or ref.shape != shape:
        raise CheckpointError(
            "a part of a quantized weight has another dtype or shape than its method writes",
            file=ref.file,
            tensor=name,
            expected=f"{' or '.join(dtypes)} {list(shape)}",
            found=f"{ref.dtype.name} {list(ref.shape)}",
        )
    return ref
