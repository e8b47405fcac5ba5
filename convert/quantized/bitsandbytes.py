"""The 4-bit types of bitsandbytes, NF4 and FP4 (QLoRA, arXiv:2305.14314): a table of 16 values and a maximum for each block."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.json_values import describe_mismatch
from equipoise.convert.core.rounding import RowReader
from equipoise.convert.core.tensor import TensorRef
from equipoise.convert.quantized.weights import QuantizedWeight, check_part

_STATE = ".quant_state.bitsandbytes__"
_STATE_SHAPE = {
    "blocksize": int,
    "shape": [int],
    "nested_blocksize?": int,
    "nested_offset?": float,
}


@dataclass(frozen=True)
class _QuantState:
    """What ``quant_state`` holds besides tensors.

    Attributes:
        rows: Rows of the weight.
        columns: Columns of the weight.
        block: How many values share a maximum.
        nested_block: How many maxima share a maximum of their own; 0 if maxima are plain.
        nested_offset: What was taken from the maxima before they were quantized.
    """

    rows: int
    columns: int
    block: int
    nested_block: int
    nested_offset: float


def find_4bit_weights(tensors: Mapping[str, TensorRef]) -> list[QuantizedWeight]:
    """Finds weights in NF4 or FP4.

    Raises:
        CheckpointError: A part is missing or has another shape.
    """
    states = [name for name in tensors if _STATE in name]
    return [_weight(name.partition(_STATE)[0], name, tensors) for name in states]


def _weight(name: str, state_name: str, tensors: Mapping[str, TensorRef]) -> QuantizedWeight:
    parts = {one: ref for one, ref in tensors.items() if one == name or one.startswith(f"{name}.")}
    state = _read_state(tensors[state_name])
    rows, columns, block = state.rows, state.columns, state.block
    size = rows * columns
    packed = check_part(parts, name, ("uint8",), (-(-size // 2), 1))
    blocks = math.ceil(size / block)
    table = check_part(parts, f"{name}.quant_map", ("float32",), (16,))
    nested = state.nested_block > 0
    maxima = check_part(parts, f"{name}.absmax", ("uint8" if nested else "float32",), (blocks,))

    def open_rows() -> RowReader:
        scale = maxima.read()
        if nested:
            scale = _nested_scale(name, parts, state, scale)
        nibbles, values = packed.read().reshape(-1), table.read().astype(np.float64)

        def read_rows(start: int, stop: int) -> Array:
            index = np.arange(start * columns, stop * columns)
            bytes_ = nibbles[index // 2]
            codes = np.where(index % 2 == 0, bytes_ >> 4, bytes_ & 15)  # the upper half is first
            found: Array = values[codes] * scale[index // block]
            return found.reshape(-1, columns)

        return read_rows

    return QuantizedWeight(name, (rows, columns), parts, open_rows)


def _nested_scale(
    name: str, parts: Mapping[str, TensorRef], state: _QuantState, codes: Array
) -> Array:
    """Returns maxima that are quantized themselves; their arithmetic is in float32, as where they were made."""
    block = state.nested_block
    table = check_part(parts, f"{name}.nested_quant_map", ("float32",), (256,)).read()
    shape = (math.ceil(len(codes) / block),)
    maxima = check_part(parts, f"{name}.nested_absmax", ("float32",), shape).read()
    scale: Array = table[codes] * maxima[np.arange(len(codes)) // block]
    return scale + np.float32(state.nested_offset)


def _read_state(ref: TensorRef) -> _QuantState:
    try:
        state = json.loads(ref.read().astype(np.uint8).tobytes())
    except ValueError:
        state = None
    problem = describe_mismatch(state, _STATE_SHAPE)
    if problem is None:
        sizes = [*state["shape"], state["blocksize"], state.get("nested_blocksize", 1)]
        if len(sizes) == 4 and min(sizes) >= 1:
            rows, columns, block, _ = sizes
            nested = state.get("nested_blocksize", 0)
            return _QuantState(rows, columns, block, nested, state.get("nested_offset", 0.0))
        problem = f"no matrix in blocks has the shape {state['shape']}"
    raise CheckpointError(
        f"the state of a quantized weight is damaged: {problem}", file=ref.file, tensor=ref.name
    )
