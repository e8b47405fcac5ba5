"""Compares arrays that hold the same elements in another order of axes or another shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from equipoise.convert.core.arrays import Array, Shape, bits

_MAX_AXES = 5
"""Arrays of more axes are compared in their own order of axes alone."""
_SAMPLES = 256


@dataclass(frozen=True)
class Arrangement:
    """A reshape and then a transposition.

    Attributes:
        shape: The shape before the transposition, without axes of size 1.
        order: The axes in their new order.
        how: What was done, in words; empty for nothing.
    """

    shape: Shape
    order: tuple[int, ...]
    how: str

    def apply(self, source: Array) -> Array:
        """Returns the rearranged array: a view, wherever it is contiguous."""
        return source.reshape(self.shape).transpose(self.order)

    def revert(self, found: Array, shape: Shape) -> Array:
        """Returns a rearranged array as the array of a shape that it was before."""
        turned = tuple(self.shape[axis] for axis in self.order)
        back = np.argsort(self.order) if self.order else ()
        return found.reshape(turned).transpose(back).reshape(shape)


def arrangements(source: Shape, found: Shape) -> Iterator[Arrangement]:
    """Yields the ways in which an array of one shape may have become one of another shape with as many elements.

    >>> [one.how for one in arrangements((2, 3), (3, 2))]
    ['reshaped', 'transposed']
    """
    before, after = _without_ones(source), _without_ones(found)
    how = "" if source == found else "reshaped"
    yield Arrangement(before, tuple(range(len(before))), how)
    if len(before) <= _MAX_AXES:
        for order in list(permutations(range(len(before))))[1:]:
            if tuple(before[axis] for axis in order) == after:
                yield Arrangement(before, order, "transposed")
            elif len(before) != len(after):
                yield Arrangement(before, order, "transposed and reshaped")
    if len(after) <= _MAX_AXES and len(before) != len(after):
        for order in list(permutations(range(len(after))))[1:]:
            inverse = [order.index(axis) for axis in range(len(order))]
            shape = tuple(after[axis] for axis in inverse)
            yield Arrangement(shape, order, "reshaped and transposed")


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def find_arrangement(source: Array, found: Array) -> str | None:
    """Returns how the elements of ``source`` are arranged in ``found``, bit for bit; None if they are not the same.

    >>> weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    >>> find_arrangement(weight, weight.T), find_arrangement(weight, weight + 1)
    ('transposed', None)
    """
    own, other = bits(source), bits(found)
    places = sample_places(other.size)
    wanted = other.reshape(-1)[places]
    for one in arrangements(source.shape, found.shape):
        turned = one.apply(own)
        if np.array_equal(take_flat(turned, places), wanted) and np.array_equal(
            other.reshape(turned.shape), turned
        ):
            return one.how
    return None


def sample_places(size: int, count: int = _SAMPLES) -> Array:
    """Returns the flat indices of a sample: the first elements, and others spread over the array."""
    if size <= count:
        return np.arange(size)
    spread = np.random.default_rng(0).integers(0, size, count // 2)
    return np.concatenate([np.arange(count // 2), spread])


def take_flat(array: Array, places: Array) -> Array:
    """Returns elements by their flat indices in C order, without copying the array."""
    if array.ndim == 0:
        return array.reshape(1)[places]
    taken: Array = array[np.unravel_index(places, array.shape)]
    return taken


def axes_sorted(shape: Shape) -> list[int]:
    """Returns the sizes of the axes that have more than one index, sorted: equal for arrays that are each other's transpose."""
    return sorted(_without_ones(shape))
