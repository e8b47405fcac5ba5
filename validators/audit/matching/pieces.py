"""Explains a weight as a part of a tensor, or as several tensors put together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np

from equipoise.convert.core.arrays import Array, DType, bits
from equipoise.validators.audit.content.report import Explanation
from equipoise.validators.audit.content.source import SourceWeights, is_same_kind
from equipoise.validators.audit.matching.fibers import FiberIndex, FiberRun, fiber_hashes

_MIN_VECTOR_SLICE = 8
"""Vectors of fewer elements are in longer ones by chance."""


class PieceFinder:
    """Finds parts of tensors and tensors put together.

    Args:
        source: The tensors.
        dtype: The dtype of the weights, to which the tensors are cast.
    """

    def __init__(self, source: SourceWeights, dtype: DType) -> None:
        self._source = source
        self._dtype = dtype
        self._indexes: dict[int, FiberIndex] = {}

    def explain(self, found: Array) -> Explanation | None:
        """Returns how a weight is made of the source's fibers; None if it is not, or not in their order."""
        if found.ndim == 0 or not found.size:
            return None
        if found.squeeze().ndim <= 1:
            return self._explain_vector(found.reshape(-1))
        for axis in range(found.ndim - 1, -1, -1):
            if found.shape[axis] > 1:
                explanation = _explain_runs(self.runs(found, axis))
                if explanation is not None:
                    return explanation
        return None

    def runs(self, found: Array, axis: int) -> list[FiberRun]:
        """Splits the fibers of an array along an axis into runs of the source's fibers."""
        length = found.shape[axis]
        if length not in self._indexes:
            arrays = (
                (name, self._source.cast(name, self._dtype))
                for name, ref in self._source.refs.items()
                if length in ref.shape and is_same_kind(ref.dtype, self._dtype)
            )
            self._indexes[length] = FiberIndex(arrays, length)
        return self._indexes[length].runs(fiber_hashes(found, axis))

    def _explain_vector(self, found: Array) -> Explanation | None:
        """Explains a vector as a row of a tensor, a part of a vector, or vectors one after the other."""
        if found.size >= _MIN_VECTOR_SLICE:
            for run in self.runs(found.reshape(1, -1), 1):
                if run.source:
                    return Explanation((run.source,), f"row {run.first}")
        vectors = [
            (name, bits(self._source.cast(name, self._dtype)).reshape(-1))
            for name, ref in self._source.refs.items()
            if sum(size > 1 for size in ref.shape) == 1 and is_same_kind(ref.dtype, self._dtype)
        ]
        own = bits(found)
        for name, vector in vectors:
            if found.size >= _MIN_VECTOR_SLICE and (start := _find_part(own, vector)) is not None:
                return Explanation((name,), f"elements {start}-{start + own.size - 1}")
        return _join_vectors(own, vectors)


def _find_part(part: Array, whole: Array) -> int | None:
    """Returns where a vector is in a longer one; None if it is not."""
    for start in np.flatnonzero(whole[: max(0, whole.size - part.size + 1)] == part[0]).tolist():
        if np.array_equal(whole[start : start + part.size], part):
            return int(start)
    return None


def _join_vectors(found: Array, vectors: Sequence[tuple[str, Array]]) -> Explanation | None:
    """Explains a vector as whole vectors one after the other; zeros may stand for one that the source does not have."""
    names: list[str] = []
    start = 0
    sizes = {vector.size for _, vector in vectors}
    zeros = 0
    while start < found.size:
        fitting = [
            (name, vector.size)
            for name, vector in vectors
            if name not in names and np.array_equal(found[start : start + vector.size], vector)
        ]
        if fitting:
            name, size = max(fitting, key=lambda pair: pair[1])
            names.append(name)
        else:
            size = next((n for n in sorted(sizes) if not found[start : start + n].any()), 0)
            zeros += 1
            if not size or zeros > 1:
                return None
        start += size
    if len(names) < 2 or start != found.size:
        return None
    return Explanation(tuple(names), "concatenated with zeros" if zeros else "concatenated")


def _explain_runs(runs: Sequence[FiberRun]) -> Explanation | None:
    """Explains fibers as tensors put together, a part of one, or fibers of one that are picked by an index."""
    if not runs or any(not run.source for run in runs):
        return None
    sources = tuple(dict.fromkeys(run.source for run in runs))
    first = runs[0]
    if all(run.is_whole for run in runs):
        return Explanation(sources, "concatenated" if len(runs) > 1 else "reshaped")
    if len(runs) == 1:
        return Explanation(sources, f"rows {first.first}-{first.first + first.length - 1}")
    if _are_parts_of_equal_size(runs) or _are_parts_in_order(runs):
        return Explanation(sources, "parts concatenated")
    if len(sources) == 1 and sum(run.length for run in runs) > first.total:
        return Explanation(sources, "rows picked by an index")
    return None


def _are_parts_in_order(runs: Sequence[FiberRun]) -> bool:
    """Whether runs are parts of one tensor in its own order, with others left out between them."""
    places = [(run.first, run.first + run.length) for run in runs]
    is_one = len({run.source for run in runs}) == 1
    return is_one and all(end <= start for (_, end), (start, _) in pairwise(places))


def _are_parts_of_equal_size(runs: Collection[FiberRun]) -> bool:
    """Whether runs of one length cover each tensor once, in order: heads of query, key and value in turn."""
    lengths = {run.length for run in runs}
    if len(lengths) > 1 or lengths == {1}:
        return False
    by_source: dict[str, list[FiberRun]] = {}
    for run in runs:
        by_source.setdefault(run.source, []).append(run)
    return len(by_source) > 1 and all(
        [run.first for run in own] == list(range(0, own[0].total, own[0].length))
        for own in by_source.values()
    )
