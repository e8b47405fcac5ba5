"""Types of NumPy arrays, in one place."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
DType = np.dtype[Any]
Shape = tuple[int, ...]
ArrayModule: TypeAlias = Any
"""numpy, or a module with the same functions, such as jax.numpy."""

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


def check_fits(fits: bool, expected: str, found: object) -> None:
    """Raises ``ValueError`` if shapes do not fit an operation."""
    if not fits:
        raise ValueError(f"expected {expected}, found {found}")
