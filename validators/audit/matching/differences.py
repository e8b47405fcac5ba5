"""Says in words where a weight differs from the tensor that it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.arrays import Array, bits
from equipoise.convert.core.tensor import DTYPES
from equipoise.validators.audit.content.report import format_ranges
from equipoise.validators.audit.matching.fibers import FiberRun

_MAX_PAIRS = 5
_MAX_ROWS_LOOKED_UP = 4096
_NARROW = ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")


@dataclass(frozen=True)
class _Slices:
    """The slices of an array along one axis.

    Attributes:
        axis: The axis.
        name: What one of them is called.
        names: What several are called.
    """

    axis: int
    name: str
    names: str

    def sentence(self, indices: Sequence[int] | Array) -> str:
        """Returns subject and verb: ``rows 2-3 are``."""
        if len(indices) == 1:
            return f"{self.name} {int(indices[0])} is"
        return f"{self.names} {format_ranges(indices)} are"

    def which(self, flags: Array) -> Array:
        """Returns for each slice whether any flag in it is set."""
        others = tuple(axis for axis in range(flags.ndim) if axis != self.axis)
        return np.asarray(flags.any(axis=others))

    def mask(self, chosen: Array, ndim: int) -> Array:
        """Returns flags of slices in a shape that broadcasts with the array."""
        shape = [1] * ndim
        shape[self.axis] = -1
        return chosen.reshape(shape)


_ELEMENTS = _Slices(0, "element", "elements")
_ROWS = _Slices(0, "row", "rows")


def describe_difference(found: Array, wanted: Array) -> str:
    """Says in which elements two arrays of one shape and dtype differ, and how.

    >>> wanted = np.arange(1, 9, dtype=np.float32).reshape(4, 2)
    >>> describe_difference(wanted[[1, 0, 2, 3]], wanted)
    'rows 0 and 1 are swapped'
    >>> describe_difference(wanted * [[1], [1], [0], [0]], wanted)
    'rows 2-3 are zero'
    """
    found, wanted = np.atleast_1d(np.asarray(found, wanted.dtype)), np.atleast_1d(wanted)
    differs = bits(found) != bits(wanted)
    slices = _smallest_slices(differs)
    left = slices.which(differs)
    values = found.astype(np.float64)
    texts = []
    broken = left & slices.which(differs & ~np.isfinite(values))
    zero = left & ~slices.which(values != 0)
    for chosen, what in ((broken, "not finite"), (zero, "zero")):
        if chosen.any():
            texts.append(f"{slices.sentence(np.flatnonzero(chosen))} {what}")
            left &= ~chosen
    if found.ndim > 1 and 0 < left.sum() <= _MAX_ROWS_LOOKED_UP:
        moved = _find_moved(found, wanted, left, slices.axis)
        left[list(moved)] = False
        texts += _describe_moved(moved, slices)
    if left.any():
        texts.append(_describe_rest(found, wanted, differs, left, slices))
    return ", ".join(texts)


def _smallest_slices(differs: Array) -> _Slices:
    """Returns the slices of which the smallest share differs."""
    if differs.ndim < 2:
        return _ELEMENTS
    choices = [_ROWS, _Slices(1, "column", "columns")] if differs.ndim == 2 else [_ROWS]
    for axis in range(len(choices), differs.ndim):
        choices.append(_Slices(axis, f"slice of axis {axis}", f"slices of axis {axis}"))
    return min(choices, key=lambda one: float(one.which(differs).mean()))


def _find_moved(found: Array, wanted: Array, left: Array, axis: int) -> dict[int, int]:
    """Returns slices that hold the values of another one -> that one."""
    wanted_rows, found_rows = np.moveaxis(wanted, axis, 0), np.moveaxis(found, axis, 0)
    places = {row.tobytes(): index for index, row in enumerate(wanted_rows)}
    moved = {int(one): places.get(found_rows[one].tobytes(), -1) for one in np.flatnonzero(left)}
    return {one: place for one, place in moved.items() if place >= 0}


def _describe_moved(moved: dict[int, int], slices: _Slices) -> list[str]:
    pairs = [(a, b) for a, b in moved.items() if a < b and moved.get(b) == a]
    texts = [f"{slices.names} {a} and {b} are swapped" for a, b in pairs[:_MAX_PAIRS]]
    if len(pairs) > _MAX_PAIRS:
        texts.append(f"{len(pairs) - _MAX_PAIRS} more pairs are swapped")
    rest = sorted(moved.keys() - {index for pair in pairs for index in pair})
    if rest:
        places = format_ranges([moved[one] for one in rest])
        texts.append(f"{slices.names} {format_ranges(rest)} hold the values of {places}")
    return texts


def _describe_rest(
    found: Array, wanted: Array, differs: Array, left: Array, slices: _Slices
) -> str:
    mask = differs & slices.mask(left, found.ndim)
    count = f"{int(mask.sum()):,} of {found.size:,} elements"
    own, other = found[mask], wanted[mask]
    for name in _NARROW:
        if DTYPES[name].itemsize < wanted.dtype.itemsize:
            with np.errstate(over="ignore", invalid="ignore"):
                rounded = other.astype(DTYPES[name]).astype(wanted.dtype)
            if np.array_equal(bits(rounded), bits(own)):
                return f"{count} are rounded to {name}"
    gap = float(np.abs(own.astype(np.float64) - other.astype(np.float64)).max())
    indices = np.flatnonzero(left)
    where = ""
    if len(indices) < len(left):
        where = f" ({slices.name if len(indices) == 1 else slices.names} {format_ranges(indices)})"
    return f"{count} differ by at most {gap:.3g}{where}"


def describe_runs(runs: Sequence[FiberRun], hashes: Array, zero: int) -> tuple[str, str] | None:
    """Says which fibers of a weight are not those that a part of a tensor, or tensors put together, would have there.

    Args:
        runs: The weight's fibers as runs of the source's.
        hashes: The hash of each fiber.
        zero: The hash of a fiber of zeros.

    Returns:
        The problem and the nearest tensor; None if too few fibers are in the source, or in no order.
    """
    known = [run for run in runs if run.source and (run.length > 1 or run.total == 1)]
    in_order = _largest_aligned(known)
    if sum(run.length for run in in_order) * 2 < len(hashes):
        return None
    wrong: dict[str, dict[str, list[int]]] = {}
    for run in runs:
        if run in in_order:
            continue
        neighbour = ([one for one in in_order if one.start < run.start] or in_order)[-1]
        first = neighbour.first + run.start - neighbour.start
        if first < 0 or first + run.length > neighbour.total:
            return None
        is_zero = (hashes[run.start : run.start + run.length] == zero).all()
        kind = "zero" if is_zero else "those of other rows" if run.source else "different"
        indices = wrong.setdefault(neighbour.source, {}).setdefault(kind, [])
        indices += range(first, first + run.length)
    if not wrong:
        return None
    nearest, kinds = max(wrong.items(), key=lambda pair: sum(map(len, pair[1].values())))
    return ", ".join(f"{_ROWS.sentence(rows)} {kind}" for kind, rows in kinds.items()), nearest


def _largest_aligned(runs: Sequence[FiberRun]) -> list[FiberRun]:
    """Returns, for each tensor, the runs that lie in one line with its longest run."""
    longest: dict[str, FiberRun] = {}
    for run in runs:
        if run.source not in longest or run.length > longest[run.source].length:
            longest[run.source] = run
    return [
        run
        for run in runs
        if run.first - run.start == longest[run.source].first - longest[run.source].start
    ]
