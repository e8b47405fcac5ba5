"""Computes the arrays of a step's targets from the arrays of its sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from equipoise.convert.architectures.computed_tensors import compute_tensor, is_approximate
from equipoise.convert.conversion.coverage import ValueCheck
from equipoise.convert.conversion.plan_types import Step
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import CoverageError, InputError
from equipoise.convert.core.ops import apply_all
from equipoise.convert.core.rules import Namespace
from equipoise.convert.core.tensor import BLOCK_BYTES, TensorHeader, TensorRef, array_blocks

_STRIP_ROWS, _STRIP_BYTES = 1024, 64
"""Tile in which a matrix is transposed: one cache line wide on the written side, long on the read side."""
_PIECE_ROWS, _MAX_PIECE_BYTES = 256, 8 * BLOCK_BYTES
"""Rows that are transposed at once, so that long runs are read, and the most bytes of them."""


def is_copy(step: Step, ref: TensorRef | None) -> bool:
    """Whether a step copies the bytes of one tensor unchanged."""
    if ref is None or len(step.sources) != 1 or len(step.targets) != 1:
        return False
    plain = all(not one.rule.ops for one in step.rules)
    return plain and step.targets[0].dtype == ref.dtype


def target_arrays(step: Step, arrays: Mapping[str, Array]) -> Iterator[tuple[TensorHeader, Array]]:
    """Yields the step's targets, C-contiguous and in the dtype of their headers.

    Args:
        step: The step.
        arrays: The step's sources by their names in the source's files.

    Raises:
        InputError: A finite value overflows in the cast.
    """
    for header, array in _target_views(step, arrays):
        yield header, cast_array(to_contiguous(array), header)


def target_streams(
    step: Step, arrays: Mapping[str, Array]
) -> Iterator[tuple[TensorHeader, Iterator[memoryview]]]:
    """Yields the same targets as blocks of bytes in C order; no target is complete in memory."""
    for header, array in _target_views(step, arrays):
        yield header, _byte_pieces(array, header)


def _target_views(step: Step, arrays: Mapping[str, Array]) -> Iterator[tuple[TensorHeader, Array]]:
    """Yields the step's targets before the cast, as views in any memory order."""
    if step.generator is not None:
        (header,) = step.targets
        rule = step.rules[0].rule
        shape = rule.inverse.shapes((header.shape,))[0]
        (array,) = apply_all(rule.ops, (compute_tensor(step.generator, shape, header.dtype),))
        yield header, array
        return
    values = {
        (Namespace.SOURCE, name): arrays[source]
        for name, source in zip(step.inputs, step.sources, strict=True)
    }
    if not step.rules:
        values = {(Namespace.TARGET, name): values[Namespace.SOURCE, name] for name in step.outputs}
    for one in step.rules:
        found = apply_all(one.rule.ops, tuple(values[one.reads, name] for name in one.rule.sources))
        values.update(
            ((one.writes, name), array) for name, array in zip(one.rule.targets, found, strict=True)
        )
    for name, header in zip(step.outputs, step.targets, strict=True):
        yield header, values.pop((Namespace.TARGET, name))


def _byte_pieces(array: Array, header: TensorHeader) -> Iterator[memoryview]:
    rows = array.reshape(1) if array.ndim == 0 else array
    row_bytes = max(array.nbytes // max(len(rows), 1), 1)
    at_once = max(1, BLOCK_BYTES // row_bytes)
    if not array.flags.c_contiguous:
        at_once = max(at_once, min(_PIECE_ROWS, _MAX_PIECE_BYTES // row_bytes))
    for start in range(0, len(rows), at_once):
        yield from array_blocks(cast_array(to_contiguous(rows[start : start + at_once]), header))


def to_contiguous(array: Array) -> Array:
    """Returns the array in C order; transposed matrices are copied tile by tile, up to ten times as fast."""
    if array.flags.c_contiguous or array.ndim != 2:
        return np.asarray(array, order="C")
    out = np.empty(array.shape, array.dtype)
    rows, columns = array.shape
    width = max(1, _STRIP_BYTES // array.itemsize)
    for row in range(0, rows, _STRIP_ROWS):
        for column in range(0, columns, width):
            here = np.s_[row : row + _STRIP_ROWS, column : column + width]
            out[here] = array[here]
    return out


def cast_array(array: Array, header: TensorHeader) -> Array:
    """Returns the array in the header's dtype.

    Raises:
        InputError: A finite value overflows.
    """
    if array.dtype == header.dtype:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(header.dtype)
        lost = np.isinf(result) & np.isfinite(array)
    if lost.any():
        raise InputError(
            f"{int(lost.sum())} finite values overflow in {header.dtype.name}",
            tensor=header.name,
            found=f"largest magnitude {np.abs(array[np.isfinite(array)]).max()}",
            hint="cast to bf16, which has the range of fp32, or keep the dtype",
        )
    return result


def check_values(check: ValueCheck, tensors: Mapping[str, TensorRef]) -> None:
    """Checks that a tensor that is not written has the values that the target uses instead.

    Raises:
        CoverageError: They differ.
    """
    (found,) = apply_all(check.ops, (tensors[check.name].read(),))
    if check.other is not None:
        (expected,) = apply_all(check.other_ops, (tensors[check.other].read(),))
        what = f"equal to {check.other!r}"
    else:
        expected = compute_tensor(str(check.generator), check.shape, found.dtype)
        what = f"the values of {check.generator!r}"
    if found.shape == expected.shape:
        close = is_approximate(str(check.generator)) and np.allclose(
            found, expected, rtol=1e-6, atol=0
        )
        if close or found.tobytes() == expected.tobytes():
            return
    problem = (
        f"{check.name!r} is not {what}, although {check.reason}; "
        f"--allow '{check.name}=REASON' converts without it"
    )
    raise CoverageError("a tensor would be lost:", [problem], file=tensors[check.name].file)
