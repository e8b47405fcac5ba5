"""Hashes of fibers, the vectors along one axis of an array, by which parts of tensors are found in others.

A row of an embedding and a column of its transpose are the same fiber. A hash depends on the order of the elements in the
fiber, and two different fibers have the same one with a probability of 2**-64.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.arrays import Array, bits

_BLOCK_ELEMENTS = 1 << 18
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MAX_PLACES = 16
"""Places of one fiber that are tried; fibers of zeros are in many tensors."""


def fiber_hashes(array: Array, axis: int) -> Array:
    """Returns the hash of every fiber along an axis, as uint64 in C order of the other axes."""
    moved = np.moveaxis(bits(array), axis, -1)
    length = moved.shape[-1]
    weights = np.random.default_rng(length).integers(0, 1 << 64, length, np.uint64) | np.uint64(1)
    rows = moved.reshape(-1, length) if moved.flags.c_contiguous else moved
    if rows.ndim != 2:
        rows = np.ascontiguousarray(moved).reshape(-1, length)
    at_once = max(1, _BLOCK_ELEMENTS // length)
    found = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once].astype(np.uint64) + np.uint64(1)
        part *= _MULTIPLIER
        part ^= part >> np.uint64(29)
        part *= weights
        found[start : start + at_once] = part.sum(axis=1, dtype=np.uint64)
    return found


@dataclass(frozen=True)
class FiberRun:
    """Consecutive fibers of a found array that are consecutive fibers of a source tensor.

    Attributes:
        start: First fiber in the found array.
        length: Number of fibers.
        source: Name of the tensor; empty for fibers that are in none.
        first: First fiber in the tensor.
        total: Number of fibers that the tensor has along that axis.
    """

    start: int
    length: int
    source: str = ""
    first: int = 0
    total: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the run is all of the tensor."""
        return bool(self.source) and self.length == self.total


class FiberIndex:
    """The fibers of one length in several tensors.

    Args:
        arrays: Names and tensors.
        length: Number of elements of a fiber.
    """

    def __init__(self, arrays: Iterable[tuple[str, Array]], length: int) -> None:
        self._hashes = [
            (name, fiber_hashes(array, axis))
            for name, array in arrays
            for axis, size in enumerate(array.shape)
            if size == length
        ]
        every = [hashes for _, hashes in self._hashes]
        self._starts = np.cumsum([0, *map(len, every)])
        joined = np.concatenate([*every, np.zeros(0, np.uint64)])
        self._order = np.argsort(joined, kind="stable")
        self._sorted = joined[self._order]

    def runs(self, found: Array) -> list[FiberRun]:
        """Splits the fibers of an array, given by their hashes, into the longest runs from left to right."""
        runs: list[FiberRun] = []
        start = 0
        first = np.searchsorted(self._sorted, found)
        while start < len(found):
            run = self._longest_run(found, start, int(first[start]))
            if not run.source and runs and not runs[-1].source:
                runs[-1] = FiberRun(runs[-1].start, runs[-1].length + 1)
            else:
                runs.append(run)
            start += run.length
        return runs

    def _longest_run(self, found: Array, start: int, first: int) -> FiberRun:
        best = FiberRun(start, 1)
        for entry in range(first, min(first + _MAX_PLACES, len(self._sorted))):
            if self._sorted[entry] != found[start]:
                break
            joined = int(self._order[entry])
            index = int(np.searchsorted(self._starts, joined, "right")) - 1
            place = joined - int(self._starts[index])
            name, hashes = self._hashes[index]
            count = min(len(hashes) - place, len(found) - start)
            differs = hashes[place : place + count] != found[start : start + count]
            length = int(differs.argmax()) if differs.any() else count
            if not best.source or length > best.length:
                best = FiberRun(start, length, name, place, len(hashes))
        return best
