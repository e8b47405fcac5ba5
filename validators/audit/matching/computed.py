"""Tables that follow from their shape alone: positions, masks, frequencies, sinusoids, fills.

Each is looked for in the first elements before all of them are compared, since most weights are no table.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from equipoise.convert.architectures.computed_tensors import (
    interleaved_sinusoidal_positions,
    sinusoidal_positions,
)
from equipoise.convert.core.arrays import Array, Shape, bits
from equipoise.convert.core.tensor import is_floating
from equipoise.validators.audit.content.source import relative_step

_HEAD = 64
_HEAD_ROWS = 4
_HIDDEN = -1000.0
"""Masks add at most this to the scores of hidden positions."""
_MAX_ROUNDINGS = 8
"""Tables are computed by other libraries in another order: so many roundings may lie between."""
_FILLED = "filled with"
_EVEN = 1e-6
_GEOMETRIC = 1e-4


def describe_table(array: Array) -> str:
    """Returns what a table is computed as; empty if it is none of the known ones.

    >>> describe_table(np.arange(40).reshape(1, 40)), describe_table(np.tri(8)), describe_table(np.full(20, 0.5))
    ('evenly spaced numbers', 'mask', 'filled with 0.5')
    """
    if not (is_floating(array.dtype) or array.dtype.kind in "iub"):
        return ""
    flat = array.reshape(-1)
    for check, text in (
        (_is_filled, f"{_FILLED} {float(flat[0]):g}"),
        (_is_even, "evenly spaced numbers"),
        (_is_mask, "mask"),
    ):
        if check(flat[:_HEAD]) and check(flat):
            return text
    rows = array.squeeze()
    if (repeated := _repeated(rows)) is not None:
        inner = describe_table(repeated)
        return f"{inner}, repeated" if inner else ""
    if not is_floating(array.dtype):
        return ""
    if rows.ndim == 1 and _is_geometric(rows):
        return "frequencies"
    if rows.ndim == 2 and (_has_waves(rows) or _has_waves(rows.T)):
        return "sinusoidal positions"
    return ""


def is_fill(table: str) -> bool:
    """Checks whether :func:`describe_table` calls a table one number everywhere, which a tensor that was lost is too."""
    return table.startswith(_FILLED)


def _is_filled(flat: Array) -> bool:
    own = bits(flat)
    return bool((own == own[0]).all())


def _is_even(flat: Array) -> bool:
    steps = np.diff(flat.astype(np.float64))
    even = np.isfinite(steps).all() and flat.size > 2
    return bool(even and np.ptp(steps) <= _EVEN * abs(steps[0]))


def _is_mask(flat: Array) -> bool:
    """Whether an array holds only two values, that of a visible position and that of a hidden one: 0 and -10000, 1 and 0."""
    high, low = float(flat.max()), float(flat.min())
    if not ((flat == high) | (flat == low)).all():
        return False
    return (high, low) == (1, 0) or high == low or (high == 0 and low <= _HIDDEN)


def _repeated(rows: Array) -> Array | None:
    """Returns one slice of an array whose slices along some axis are all equal."""
    for axis in range(rows.ndim):
        slices = np.moveaxis(rows, axis, 0)
        if len(slices) > 1 and (slices[1] == slices[0]).all() and (slices == slices[:1]).all():
            return np.asarray(slices[0])
    return None


def _is_geometric(values: Array) -> bool:
    """Whether the distinct values of a vector are a geometric sequence: the frequencies of positions."""
    if not (values > 0).all():
        return False
    logs = np.diff(np.log(np.unique(values.astype(np.float64))))
    return logs.size > 1 and bool(np.ptp(logs) <= _GEOMETRIC * max(1.0, float(logs.max())))


def _has_waves(rows: Array) -> bool:
    """Whether an array holds sines and cosines of positions times frequencies."""
    bound = _MAX_ROUNDINGS * relative_step(rows.dtype) * max(rows.shape)
    count, width = rows.shape
    head = (min(count, _HEAD_ROWS), width)
    for index, table in enumerate(_wave_tables(head)):
        if np.allclose(rows[:_HEAD_ROWS].astype(np.float64), table, rtol=0, atol=bound):
            whole = list(_wave_tables((count, width)))[index]
            return np.allclose(rows.astype(np.float64), whole, rtol=0, atol=bound)
    return False


def _wave_tables(shape: Shape) -> Iterator[Array]:
    """Yields the tables of sinusoidal positions that models use; each row follows from its index."""
    count, width = shape
    yield sinusoidal_positions(shape)
    yield interleaved_sinusoidal_positions(shape)
    half = width // 2
    if half * 2 != width or half < 2:
        return
    scales = np.exp(np.arange(half) * -(np.log(10000) / (half - 1)))
    for first in (0, 1, 2):
        angles = np.arange(first, count + first)[:, None] * scales
        yield np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
