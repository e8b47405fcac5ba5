"""Small numbers with scales: fp8 (one scale for the tensor, a row or a block) and int8 (LLM.int8, compressed-tensors)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.rounding import RowReader
from equipoise.convert.core.tensor import TensorRef
from equipoise.convert.quantized.weights import FLOATS, QuantizedWeight

_SMALL_DTYPES = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "int8")
_SCALE_NAMES = ("weight_scale_inv", "weight_scale")
_UNUSED_NAMES = ("input_scale", "output_scale", "k_scale", "v_scale", "activation_scale_ub")
"""Scales of activations; they play no part in the weights."""


def find_scaled_weights(
    tensors: Mapping[str, TensorRef], block: tuple[int, ...] = ()
) -> list[QuantizedWeight]:
    """Finds weights in fp8 or int8 with a scale next to them.

    ``weight_scale_inv`` (DeepSeek, transformers' fp8) and ``weight_scale`` (compressed-tensors, FBGEMM) both multiply; ``SCB``
    (LLM.int8, arXiv:2208.07339) holds the largest absolute value of each row, which is 127.

    Args:
        tensors: The tensors of the checkpoint.
        block: Rows and columns of the blocks that share a scale, as the config says; empty if it does not.

    Raises:
        CheckpointError: A scale does not fit its weight.
    """
    found = []
    for name, ref in tensors.items():
        if not name.endswith("weight") or ref.dtype.name not in _SMALL_DTYPES:
            continue
        module = name.removesuffix("weight")
        scale = next((f"{module}{one}" for one in _SCALE_NAMES if f"{module}{one}" in tensors), "")
        rows = f"{module}SCB"
        if not scale and rows in tensors:
            scale = rows
        if not scale:
            continue
        zero = f"{module}weight_zero_point"
        unused = (f"{module}{one}" for one in (*_UNUSED_NAMES, "weight_format"))
        names = [name, scale, *(one for one in (zero, *unused) if one in tensors)]
        parts = {one: tensors[one] for one in names}
        zeros = tensors.get(zero)
        found.append(_scaled_weight(name, ref, tensors[scale], zeros, parts, scale == rows, block))
    return found


def _scaled_weight(
    name: str,
    ref: TensorRef,
    scale: TensorRef,
    zeros: TensorRef | None,
    parts: Mapping[str, TensorRef],
    is_row_maximum: bool,
    block: tuple[int, ...],
) -> QuantizedWeight:
    if len(ref.shape) != 2:
        raise CheckpointError(
            "a quantized weight is not a matrix", file=ref.file, tensor=name, found=list(ref.shape)
        )
    rows, columns = ref.shape
    _check_grid(scale, (rows, columns), FLOATS)
    if zeros is not None:
        _check_grid(zeros, (rows, columns), ("int8", "uint8", "int32"))

    def open_rows() -> RowReader:
        values, factors = ref.read(), _grid(scale.read(), rows).astype(np.float64)
        if is_row_maximum:
            factors = factors / 127
        offsets = None if zeros is None else _grid(zeros.read(), rows).astype(np.float64)

        def read_rows(start: int, stop: int) -> Array:
            out = values[start:stop].astype(np.float64)
            if offsets is not None:
                out -= _expand(offsets, start, stop, columns, _blocks(offsets, ref.shape, block))
            return out * _expand(factors, start, stop, columns, _blocks(factors, ref.shape, block))

        return read_rows

    return QuantizedWeight(name, (rows, columns), parts, open_rows)


def _grid(scale: Array, rows: int) -> Array:
    """Returns scales as a grid ``[1 or rows or blocks, 1 or blocks]``."""
    if scale.ndim == 2:
        return scale
    return scale.reshape(-1, 1) if scale.size in (1, rows) else scale.reshape(1, -1)


def _check_grid(scale: TensorRef, shape: tuple[int, int], dtypes: tuple[str, ...]) -> None:
    sizes = scale.shape if len(scale.shape) == 2 else (scale.size, 1)
    fits = len(scale.shape) <= 2 and all(
        1 <= count <= size for count, size in zip(sizes, shape, strict=True)
    )
    if not fits or scale.dtype.name not in dtypes:
        raise CheckpointError(
            "the scale or zero point does not fit its weight",
            file=scale.file,
            tensor=scale.name,
            expected=f"{' or '.join(dtypes)}: one number, one for each of {shape[0]} rows, or a grid of blocks",
            found=f"{scale.dtype.name} {list(scale.shape)}",
        )


def _expand(grid: Array, start: int, stop: int, columns: int, blocks: tuple[int, int]) -> Array:
    """Returns the scale of every element of some rows; the last block of an axis may be cut."""
    found: Array = grid[
        np.ix_(np.arange(start, stop) // blocks[0], np.arange(columns) // blocks[1])
    ]
    return found


def _blocks(grid: Array, shape: tuple[int, ...], block: tuple[int, ...]) -> tuple[int, int]:
    """Returns rows and columns of the blocks that share a scale: those that the config states, if they fit the grid."""
    sizes = tuple(zip(shape, grid.shape, strict=True))
    if len(block) == len(sizes) and all(
        length > 0 and -(-size // length) == count
        for (size, count), length in zip(sizes, block, strict=True)
    ):
        return block[0], block[1]
    (rows, row_count), (columns, column_count) = sizes
    return _block_size(rows, row_count), _block_size(columns, column_count)


def _block_size(size: int, count: int) -> int:
    """Returns the size of equal blocks of an axis, the last of which may be cut: a power of two if there is a choice.

    >>> _block_size(576, 5), _block_size(300, 300), _block_size(96, 2)
    (128, 1, 48)
    """
    smallest = -(-size // count)
    if size % count == 0:
        return smallest
    power = 1 << (smallest - 1).bit_length()
    return power if -(-size // power) == count else smallest
