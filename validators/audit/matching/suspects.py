"""Judges weights that nothing explains: which tensor of the source they should be, and where they are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from equipoise.convert.core.arrays import Array
from equipoise.convert.core.tensor import is_floating
from equipoise.validators.audit.content.arrangements import axes_sorted
from equipoise.validators.audit.content.report import UnaccountedWeight
from equipoise.validators.audit.content.source import SourceWeights
from equipoise.validators.audit.content.weights import ProgramWeight, WeightRole
from equipoise.validators.audit.matching.differences import describe_difference, describe_runs
from equipoise.validators.audit.matching.fibers import fiber_hashes
from equipoise.validators.audit.matching.nearest import Neighbour, find_neighbour
from equipoise.validators.audit.matching.pieces import PieceFinder

MAX_SMALL = 16
"""Constants of at most so many elements are not looked for where nothing in the source is like them: scalars, shapes, axes."""
_MIN_ALIKE = 0.9
"""Share of equal elements, or correlation, from which on a weight is taken for a tensor that is elsewhere in the program too."""


def judge_suspect(
    weight: ProgramWeight,
    found: Array,
    named: str,
    unused: Sequence[str],
    source: SourceWeights,
    pieces: PieceFinder,
) -> UnaccountedWeight | None:
    """Returns what is wrong with a weight; None if the source has nothing that it should be.

    Args:
        weight: The weight.
        found: Its values.
        named: The tensor that it should be by its name; empty if that is not known.
        unused: Tensors of the source that were found nowhere, the likeliest first.
        source: The source.
        pieces: Finds parts of tensors.
    """
    if named and source.fits(named, found):
        return _compare(weight, found, find_neighbour(found, [named], source), source)
    if found.size < 2:
        return None
    same_size = list(source.of_size(found.size, found.dtype))
    missing = [name for name in unused if name in same_size]
    likely = find_neighbour(found, missing, source)
    if likely is not None and likely.is_alike:
        return _compare(weight, found, likely, source)
    if not is_floating(found.dtype):
        return None
    other = find_neighbour(found, same_size, source)
    if other is not None and max(other.equal, other.correlation) >= _MIN_ALIKE:
        return _compare(weight, found, other, source)
    for problem, nearest in _misplaced_rows(found, pieces):
        return weight.unaccounted(problem, nearest)
    axes = axes_sorted(found.shape)
    alike = [name for name in missing if axes_sorted(source.refs[name].shape) == axes]
    if alike and (found.size > MAX_SMALL or weight.role is WeightRole.PARAMETER):
        return weight.unaccounted(
            f"is like no tensor of the source; {alike[0]}, which has its size, is missing"
        )
    return None


def _compare(
    weight: ProgramWeight, found: Array, neighbour: Neighbour | None, source: SourceWeights
) -> UnaccountedWeight | None:
    if neighbour is None:
        return None
    wanted = source.cast(neighbour.name, found.dtype)
    own = neighbour.arrangement.revert(found, wanted.shape)
    return weight.unaccounted(describe_difference(own, wanted), neighbour.name)


def _misplaced_rows(found: Array, pieces: PieceFinder) -> Iterator[tuple[str, str]]:
    """Yields what is wrong with a weight that consists of parts of tensors for the most part."""
    for axis in range(found.ndim - 1, -1, -1):
        length = found.shape[axis]
        if 1 < length < found.size:
            hashes = fiber_hashes(found, axis)
            zero = int(fiber_hashes(np.zeros((1, length), found.dtype), 1)[0])
            described = describe_runs(pieces.runs(found, axis), hashes, zero)
            if described is not None:
                yield described
