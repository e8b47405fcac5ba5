"""Tables that follow from their shape alone: positions, masks, frequencies, sinusoids, fills."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from equipoise.convert.core.arrays import Array
from equipoise.convert.core.computed_tensors import (
    interleaved_sinusoidal_positions,
    sinusoidal_positions,
)
from equipoise.convert.core.tensor import is_floating
from equipoise.validators.audit.content.source import relative_step

_HIDDEN = -1000.0
"""Masks add at most this to the scores of hidden positions."""
_MAX_ROUNDINGS = 8
"""Tables are computed by other libraries in another order: so many roundings may lie between."""


def describe_table(array: Array) -> str:
    """Returns what a table is computed as; empty if it is none of the known ones."""
    values = array.astype(np.float64) if is_floating(array.dtype) else array
    if values.dtype.kind not in "iufb":
        return ""
    flat = values.reshape(-1)
    if (flat == flat[0]).all():
        return f"filled with {flat[0]:g}" if values.dtype.kind == "f" else f"filled with {flat[0]}"
    if _is_range(flat):
        return "evenly spaced numbers"
    if _is_mask(flat):
        return "mask"
    rows = array.squeeze()
    if (repeated := _repeated(rows)) is not None:
        inner = describe_table(repeated)
        return f"{inner}, repeated" if inner else ""
    if is_floating(array.dtype):
        return _describe_waves(values.squeeze(), relative_step(array.dtype))
    return ""


def _is_range(flat: Array) -> bool:
    steps = np.diff(flat.astype(np.float64))
    return flat.size > 2 and bool(
        np.isfinite(steps).all() and np.ptp(steps) <= 1e-6 * abs(steps[0])
    )


def _repeated(rows: Array) -> Array | None:
    """Returns one slice of an array whose slices along some axis are all equal."""
    for axis in range(rows.ndim):
        first = np.take(rows, [0], axis)
        if rows.shape[axis] > 1 and (rows == first).all():
            return np.squeeze(first, axis)
    return None


def _is_mask(flat: Array) -> bool:
    """Whether an array holds only two values, that of a visible position and that of a hidden one: 0 and -10000, 1 and 0."""
    high, low = float(flat.max()), float(flat.min())
    if not ((flat == high) | (flat == low)).all():
        return False
    return (high, low) == (1, 0) or (high == 0 and low <= _HIDDEN)


def _describe_waves(rows: Array, eps: float) -> str:
    """Recognises frequencies, and sines and cosines of positions times frequencies."""
    bound = _MAX_ROUNDINGS * eps
    if rows.ndim == 1 and rows.size > 2 and (rows > 0).all():
        logs = np.diff(np.log(np.unique(rows)))
        if len(logs) > 1 and np.ptp(logs) <= 1e-4 * max(1.0, float(np.abs(logs).max())):
            return "frequencies"
    if rows.ndim != 2:
        return ""
    scale = float(max(rows.shape))
    for turned in (rows, rows.T):
        for table in _wave_tables(turned.shape):
            if np.allclose(turned, table, rtol=0, atol=bound * scale):
                return "sinusoidal positions"
    return ""


def _wave_tables(shape: tuple[int, ...]) -> Iterator[Array]:
    count, width = shape
    yield sinusoidal_positions((count, width))
    yield interleaved_sinusoidal_positions((count, width))
    half = width // 2
    if half * 2 == width and half > 1:
        scales = np.exp(np.arange(half) * -(np.log(10000) / (half - 1)))
        for first in (0, 1, 2):
            angles = np.arange(first, count + first)[:, None] * scales
            yield np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
        interleaved = np.empty((count, width))
        powers = np.exp(np.arange(0, width, 2) * -(np.log(10000) / width))
        angles = np.arange(count)[:, None] * powers
        interleaved[:, 0::2], interleaved[:, 1::2] = np.sin(angles), np.cos(angles)
        yield interleaved
