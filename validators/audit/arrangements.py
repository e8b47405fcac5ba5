"""Compares arrays that hold the same elements in another order of axes or another shape."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from equipoise.convert.core.arrays import Array

_MAX_AXES = 5
"""Arrays of more axes are compared in their own order of axes alone."""
_SAMPLES = 256

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.uint64}


def bits(array: Array) -> Array:
    """Returns the elements of an array as unsigned integers, so that equal means bit for bit."""
    return np.ascontiguousarray(array).view(_UNSIGNED[array.dtype.itemsize])


def bit_sum(array: Array) -> int:
    """Returns a number that is equal for arrays with the same elements in any order, and rarely for others.

    >>> one = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    >>> bit_sum(one) == bit_sum(one.T), bit_sum(one) == bit_sum(one * 2)
    (True, False)
    """
    return int(bits(array).sum(dtype=np.uint64))


def arrangements(source: Array, found: Array) -> Iterator[tuple[Array, str]]:
    """Yields the source in every order of axes in which it could be ``found``, as views of ``found``'s shape where that needs no copy.

    Args:
        source: An array.
        found: An array with the same number of elements.

    Yields:
        The arranged source with the squeezed shape of either, and what was done: ``""``, ``reshaped``, ``transposed``.
    """
    same = source.reshape(found.shape)
    yield same, "" if source.shape == found.shape else "reshaped"
    squeezed, goal = source.squeeze(), found.squeeze()
    sizes = squeezed.shape
    if 1 < squeezed.ndim <= _MAX_AXES:
        for order in _orders(squeezed.ndim):
            turned = squeezed.transpose(order)
            if turned.shape == goal.shape:
                yield turned.reshape(found.shape) if turned.flags.c_contiguous else turned, "transposed"
            elif goal.ndim != squeezed.ndim:
                yield turned, "transposed and reshaped"
    if 1 < goal.ndim <= _MAX_AXES and goal.ndim != len(sizes):
        for order in _orders(goal.ndim):
            before = tuple(goal.shape[axis] for axis in order)
            back = np.argsort(order)
            yield source.reshape(before).transpose(back), "reshaped and transposed"


def _orders(count: int) -> list[tuple[int, ...]]:
    return list(permutations(range(count)))[1:]


def find_arrangement(source: Array, found: Array) -> str | None:
    """Returns how the elements of ``source`` are arranged in ``found``, bit for bit; None if they are not the same.

    >>> weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    >>> find_arrangement(weight, weight.T), find_arrangement(weight, weight + 1)
    ('transposed', None)
    """
    own, other = bits(source), bits(found)
    flat = other.reshape(-1)
    places = sample_places(flat.size)
    wanted = flat[places]
    for turned, how in arrangements(own, other):
        if np.array_equal(take_flat(turned, places), wanted) and np.array_equal(
            other.reshape(turned.shape), turned
        ):
            return how
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
