"""The format ``pack-quantized`` of compressed-tensors: signed integers of 1 to 8 bits, packed into integers of 32."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.rounding import RowReader
from equipoise.convert.core.tensor import TensorRef
from equipoise.convert.quantized.packing import unpack_integers
from equipoise.convert.quantized.weights import FLOATS, QuantizedWeight, check_part

_PARTS = ("packed", "scale", "shape", "zero_point", "g_idx")


def find_packed_weights(tensors: Mapping[str, TensorRef]) -> list[QuantizedWeight]:
    """Finds packed weights: ``weight[o, i] = scale[o, g] * (q[o, i] - zero[o, g])``, ``g`` the group of input ``i``.

    Values are stored with ``2**(bits - 1)`` added, zero points too, which are packed along the outputs. The number of bits follows
    from the shapes.

    Raises:
        CheckpointError: A part is missing or has another shape.
    """
    names = [name for name in tensors if name.endswith(".weight_packed")]
    return [_packed_weight(name.removesuffix("_packed"), tensors) for name in names]


def _packed_weight(name: str, tensors: Mapping[str, TensorRef]) -> QuantizedWeight:
    parts = {
        f"{name}_{part}": tensors[f"{name}_{part}"]
        for part in _PARTS
        if f"{name}_{part}" in tensors
    }
    rows, columns = _read_shape(check_part(parts, f"{name}_shape", ("int64", "int32"), (2,)))
    packed = parts[f"{name}_packed"]
    words = packed.shape[1] if len(packed.shape) == 2 else 0
    bits = next((bits for bits in range(1, 9) if -(-columns * bits // 32) == words), 0)
    check_part(parts, packed.name, ("int32",), (rows, -(-columns * bits // 32) if bits else -1))
    scales = parts.get(f"{name}_scale")
    groups = scales.shape[1] if scales is not None and len(scales.shape) == 2 else 1
    scales = check_part(parts, f"{name}_scale", FLOATS, (rows, groups))
    zeros = parts.get(f"{name}_zero_point")
    if zeros is not None:
        zeros = check_part(parts, zeros.name, ("int32",), (-(-rows * bits // 32), groups))
    order = parts.get(f"{name}_g_idx")

    def open_rows() -> RowReader:
        half = 1 << (bits - 1)
        values, scale = packed.read(), scales.read().astype(np.float64)
        group = np.arange(columns) // -(-columns // groups) if order is None else order.read()
        zero = None
        if zeros is not None:
            stored = unpack_integers(np.ascontiguousarray(zeros.read().T), bits, rows).T
            zero = stored.astype(np.float64) - half

        def read_rows(start: int, stop: int) -> Array:
            q = unpack_integers(values[start:stop], bits, columns).astype(np.float64) - half
            if zero is not None:
                q -= zero[start:stop][:, group]
            return q * scale[start:stop][:, group]

        return read_rows

    return QuantizedWeight(name, (rows, columns), parts, open_rows)


def _read_shape(ref: TensorRef) -> tuple[int, int]:
    rows, columns = map(int, ref.read().tolist())
    if min(rows, columns) < 1:
        raise CheckpointError(
            "the stored shape is not that of a matrix", file=ref.file, tensor=ref.name,
            found=[rows, columns],
        )  # fmt: skip
    return rows, columns
