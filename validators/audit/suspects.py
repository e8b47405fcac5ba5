"""Judges weights that nothing explains: which tensor of the source they should be, and where they are not."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from equipoise.convert.core.arrays import Array
from equipoise.convert.core.tensor import is_floating
from equipoise.validators.audit.fibers import fiber_hashes
from equipoise.validators.audit.nearest import (
    Neighbour,
    describe_difference,
    describe_runs,
    find_neighbour,
    zero_hash,
)
from equipoise.validators.audit.pieces import PieceFinder
from equipoise.validators.audit.report import UnaccountedWeight
from equipoise.validators.audit.source import SourceWeights, is_same_kind
from equipoise.validators.audit.weights import ProgramWeight

MAX_SMALL = 16
"""Constants of at most so many elements are not looked for where nothing in the source is like them: scalars, shapes, axes."""
_MIN_ALIKE = 0.9
"""Share of equal elements, or correlation, from which on a weight is taken for a tensor that is elsewhere in the program too."""


def judge_suspect(
    weight: ProgramWeight,
    found: Array,
    named: str,
    unused: Collection[str],
    source: SourceWeights,
    pieces: PieceFinder,
) -> UnaccountedWeight | None:
    """Returns what is wrong with a weight; None if the source has nothing that it should be.

    Args:
        weight: The weight.
        found: Its values.
        named: The tensor that it should be by its name; empty if that is not known.
        unused: Tensors of the source that were found nowhere.
        source: The source.
        pieces: Finds parts of tensors.
    """
    fits = bool(named) and source.refs[named].size == found.size
    if fits and is_same_kind(source.refs[named].dtype, found.dtype):
        return _unaccounted(weight, found, find_neighbour(found, [named], source), source)
    if found.size < 2:
        return None
    missing = [name for name in source.of_size(found.size, found.dtype) if name in unused]
    neighbour = find_neighbour(found, missing, source)
    if neighbour is not None and neighbour.is_alike:
        return _unaccounted(weight, found, neighbour, source)
    if not is_floating(found.dtype):
        return None
    others = find_neighbour(found, source.of_size(found.size, found.dtype), source)
    if others is not None and max(others.equal, others.correlation) >= _MIN_ALIKE:
        return _unaccounted(weight, found, others, source)
    for problem, nearest in _misplaced_rows(found, pieces):
        return _with_problem(weight, problem, nearest)
    if found.size > MAX_SMALL and neighbour is not None and _has_sizes_of(found, neighbour, source):
        problem = f"is like no tensor of the source; {neighbour.name}, which has its size, is missing"
        return _with_problem(weight, problem, "")
    return None


def _with_problem(weight: ProgramWeight, problem: str, nearest: str) -> UnaccountedWeight:
    ref = weight.ref
    return UnaccountedWeight(ref.name, ref.dtype.name, ref.shape, problem, nearest)


def _unaccounted(
    weight: ProgramWeight, found: Array, neighbour: Neighbour | None, source: SourceWeights
) -> UnaccountedWeight | None:
    if neighbour is None:
        return None
    wanted = source.cast(neighbour.name, found.dtype)
    own = found.reshape(-1)[neighbour.order]
    return _with_problem(weight, describe_difference(own, wanted), neighbour.name)


def _misplaced_rows(found: Array, pieces: PieceFinder) -> Iterator[tuple[str, str]]:
    """Yields what is wrong with a weight that consists of parts of tensors for the most part."""
    for axis in range(found.ndim - 1, -1, -1):
        length = found.shape[axis]
        if length > 1 and found.size > length:
            hashes = fiber_hashes(found, axis)
            described = describe_runs(pieces.runs(found, axis), hashes, zero_hash(length))
            if described is not None:
                yield described


def _has_sizes_of(found: Array, neighbour: Neighbour, source: SourceWeights) -> bool:
    """Whether a weight has the same axes as a tensor, in any order, but for those of size 1."""
    sizes = (found.shape, source.refs[neighbour.name].shape)
    one, other = (sorted(size for size in shape if size > 1) for shape in sizes)
    return one == other
