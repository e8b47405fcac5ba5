"""Says which tensor of the source a weight is nearest to, and where the two differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from equipoise.convert.core.arrays import Array
from equipoise.convert.core.tensor import DTYPES
from equipoise.validators.audit.arrangements import arrangements, bits, sample_places, take_flat
from equipoise.validators.audit.fibers import FiberRun, fiber_hashes
from equipoise.validators.audit.source import SourceWeights

_SAMPLES = 2048
_MIN_EQUAL = 0.02
_MIN_CORRELATION = 0.5
_MAX_RANGES = 5
_MAX_ROWS_LOOKED_UP = 4096
_NARROW = ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")


@dataclass(frozen=True)
class Neighbour:
    """The tensor that a weight is nearest to.

    Attributes:
        name: Its name.
        equal: Share of elements that are equal in a sample.
        correlation: Correlation of the elements in a sample.
        order: The flat index in the weight of each element of the tensor, in the tensor's shape.
    """

    name: str
    equal: float
    correlation: float
    order: Array

    @property
    def is_alike(self) -> bool:
        """Whether the values themselves show that the weight was made of this tensor."""
        return self.equal >= _MIN_EQUAL or self.correlation >= _MIN_CORRELATION


def find_neighbour(
    found: Array, candidates: Iterable[str], source: SourceWeights
) -> Neighbour | None:
    """Returns the candidate that has the most elements in common with a weight; all have its number of elements."""
    places = sample_places(found.size, _SAMPLES)
    sample = take_flat(found, places)
    best: Neighbour | None = None
    for name in candidates:
        flat = source.cast(name, found.dtype).reshape(-1)
        indices = np.arange(flat.size).reshape(source.refs[name].shape)
        for turned, _ in arrangements(indices, found):
            own = flat[take_flat(turned, places)]
            equal = float((bits(own) == bits(sample)).mean())
            related = _correlation(own, sample)
            if best is None or (equal, related) > (best.equal, best.correlation):
                best = Neighbour(name, equal, related, turned)
    return best if best is None else _with_order(best, source)


def _with_order(best: Neighbour, source: SourceWeights) -> Neighbour:
    order = np.empty(best.order.size, np.int64)
    order[best.order.reshape(-1)] = np.arange(best.order.size)
    shape = source.refs[best.name].shape
    return Neighbour(best.name, best.equal, best.correlation, order.reshape(shape))


def _correlation(a: Array, b: Array) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    if x.size < 2:
        return float(x.size > 0 and abs(x[0] - y[0]) <= 0.1 * abs(x[0]))
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / scale if scale else 0.0


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
    if not differs.any():
        return "equal"
    unit, axis = _unit(differs)
    others = tuple(one for one in range(found.ndim) if one != axis)
    rows = differs.any(axis=others)
    texts = []
    values = found.astype(np.float64)
    if not np.isfinite(values).all():
        broken = np.flatnonzero(rows & ~np.isfinite(values).all(axis=others))
        texts.append(f"{_name_rows(unit, broken)} not finite")
        rows[broken] = False
    zero = np.flatnonzero(rows & ~values.any(axis=others))
    if zero.size:
        texts.append(f"{_name_rows(unit, zero)} zero")
        rows[zero] = False
    if found.ndim > 1 and 0 < rows.sum() <= _MAX_ROWS_LOOKED_UP:
        moved = _describe_moved(found, wanted, rows, axis, unit)
        if moved:
            texts.append(moved)
    if rows.any():
        texts.append(_describe_rest(found, wanted, differs, rows, axis, unit))
    return ", ".join(texts)


def _unit(differs: Array) -> tuple[str, int]:
    """Returns the axis along which the fewest slices differ, and what its slices are called."""
    if differs.ndim < 2:
        return "element", 0
    shares = []
    for axis in range(differs.ndim):
        others = tuple(one for one in range(differs.ndim) if one != axis)
        shares.append(float(differs.any(axis=others).mean()))
    axis = int(np.argmin(shares))
    names = {0: "row", 1: "column"}
    return names.get(axis, f"slice of axis {axis}") if differs.ndim <= 2 or axis == 0 else (
        f"slice of axis {axis}"
    ), axis


def _name_rows(unit: str, indices: Sequence[int] | Array) -> str:
    """Returns the subject of a sentence: ``rows 2-3 are``."""
    plural = len(indices) > 1
    name = unit.replace("slice", "slices") if unit.startswith("slice") else f"{unit}s"
    return f"{name if plural else unit} {format_ranges(indices)} {'are' if plural else 'is'}"


def format_ranges(indices: Sequence[int] | Array) -> str:
    """Returns indices as ranges.

    >>> format_ranges([1, 2, 3, 7])
    '1-3, 7'
    """
    values = [int(one) for one in indices]
    breaks = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(values)) if b != a + 1), len(values)]
    ranges = [values[start:end] for start, end in pairwise(breaks)]
    texts = [f"{one[0]}-{one[-1]}" if len(one) > 1 else str(one[0]) for one in ranges]
    more = len(texts) - _MAX_RANGES
    return ", ".join(texts[:_MAX_RANGES]) + (f" and {more} more ranges" if more > 0 else "")


def _describe_moved(found: Array, wanted: Array, rows: Array, axis: int, unit: str) -> str:
    """Describes rows that hold the values of other rows, and takes them off the list."""
    places = {
        row.tobytes(): index for index, row in enumerate(np.moveaxis(wanted, axis, 0))
    }
    moved = {
        int(index): places[row.tobytes()]
        for index in np.flatnonzero(rows)
        if (row := np.moveaxis(found, axis, 0)[index]).tobytes() in places
    }
    rows[list(moved)] = False
    swapped = [(a, b) for a, b in moved.items() if a < b and moved.get(b) == a]
    in_pairs = {index for pair in swapped for index in pair}
    name = unit.replace("slice", "slices") if unit.startswith("slice") else f"{unit}s"
    texts = [f"{name} {a} and {b} are swapped" for a, b in swapped[:_MAX_RANGES]]
    if len(swapped) > _MAX_RANGES:
        texts.append(f"{len(swapped) - _MAX_RANGES} more pairs are swapped")
    rest = [index for index in moved if index not in in_pairs]
    if rest:
        texts.append(
            f"{name} {format_ranges(rest)} hold the values of {format_ranges([moved[i] for i in rest])}"
        )
    return ", ".join(texts)


def _describe_rest(
    found: Array, wanted: Array, differs: Array, rows: Array, axis: int, unit: str
) -> str:
    shape = [1] * found.ndim
    shape[axis] = -1
    mask = differs & rows.reshape(shape)
    count, total = int(mask.sum()), found.size
    for name in _NARROW:
        if DTYPES[name].itemsize < wanted.dtype.itemsize:
            with np.errstate(over="ignore", invalid="ignore"):
                rounded = wanted[mask].astype(DTYPES[name]).astype(wanted.dtype)
            if np.array_equal(bits(rounded), bits(found[mask])):
                return f"{count:,} of {total:,} elements are rounded to {name}"
    gap = float(np.abs(found[mask].astype(np.float64) - wanted[mask].astype(np.float64)).max())
    text = f"{count:,} of {total:,} elements differ by at most {gap:.3g}"
    indices = np.flatnonzero(rows)
    if len(indices) < len(rows):
        name = unit.replace("slice", "slices") if unit.startswith("slice") else f"{unit}s"
        text += f" ({name if len(indices) > 1 else unit} {format_ranges(indices)})"
    return text


def describe_runs(
    runs: Sequence[FiberRun], hashes: Array, zero: int
) -> tuple[str, str] | None:
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
    return ", ".join(f"{_name_rows('row', rows)} {kind}" for kind, rows in kinds.items()), nearest


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


def zero_hash(length: int) -> int:
    """Returns the hash of a fiber of zeros."""
    return int(fiber_hashes(np.zeros((1, length), np.float32), 1)[0])
