"""A quantized weight: the tensors that make it up, and a reference that reads it as floats, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from equipoise.convert.core.arrays import DType
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.rounding import ComputedRef, RowReader
from equipoise.convert.core.tensor import TensorRef

FLOATS = ("float32", "float16", "bfloat16", "float8_e8m0fnu", "float64")
"""Dtypes of scales."""


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


def plain_ref(weight: QuantizedWeight, dtype: DType) -> ComputedRef:
    """Returns the reference of a weight as floats."""
    file = next(iter(weight.parts.values())).file
    return ComputedRef(weight.name, dtype, weight.shape, file, open_rows=weight.open)


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
