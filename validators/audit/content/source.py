"""The tensors of the source, found by their content."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping

import ml_dtypes
import numpy as np

from equipoise.convert.core.arrays import Array, DType, bit_sum
from equipoise.convert.core.tensor import TensorRef, is_floating

_MAX_KEPT_BYTES = 64 << 20
"""Bytes of arrays that are kept for the next question; a larger tensor is read again."""


class SourceWeights:
    """The tensors of a checkpoint: read on demand, and indexed by size and sum of their bits.

    Args:
        tensors: The tensors by name.

    Attributes:
        refs: The tensors by name.
    """

    def __init__(self, tensors: Mapping[str, TensorRef]) -> None:
        self.refs = {name: ref for name, ref in tensors.items() if ref.size}
        self._by_size: dict[int, list[str]] = {}
        for name, ref in self.refs.items():
            self._by_size.setdefault(ref.size, []).append(name)
        self._sums: dict[tuple[str, str, str], int] = {}
        self._kept: OrderedDict[str, Array] = OrderedDict()
        self._kept_bytes = 0

    def read(self, name: str) -> Array:
        """Returns a tensor in the dtype of its file."""
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        array = self.refs[name].read()
        if array.nbytes <= _MAX_KEPT_BYTES // 4:
            self._kept[name] = array
            self._kept_bytes += array.nbytes
            while self._kept_bytes > _MAX_KEPT_BYTES:
                self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return array

    def cast(self, name: str, dtype: DType, rounding: DType | None = None) -> Array:
        """Returns a tensor in another dtype, rounded to a third one before if that is given."""
        return cast(self.read(name), dtype, rounding)

    def fits(self, name: str, found: Array) -> bool:
        """Checks whether a tensor has as many elements as an array, of the same kind."""
        ref = self.refs[name]
        return ref.size == found.size and is_same_kind(ref.dtype, found.dtype)

    def siblings(self, name: str) -> list[str]:
        """Returns the other tensors of a tensor's module."""
        path = name.rpartition(".")[0]
        return [one for one in self.refs if one != name and one.rpartition(".")[0] == path]

    def are_of_two_layers(self, kernel: str, bias: str) -> bool:
        """Checks whether a kernel and a bias belong to two layers, each of which has a kernel and a bias of these sizes and other values."""
        layers = (kernel.rpartition("."), bias.rpartition("."))
        if layers[0][0] == layers[1][0]:
            return False
        pairs = (
            (kernel, f"{layers[1][0]}.{layers[0][2]}"),
            (bias, f"{layers[0][0]}.{layers[1][2]}"),
        )
        return all(
            other in self.refs
            and self.refs[one].shape == self.refs[other].shape
            and not np.array_equal(self.read(one), self.read(other))
            for one, other in pairs
        )

    def of_size(self, size: int, dtype: DType) -> Iterator[str]:
        """Yields the names of tensors with this number of elements whose values can become this dtype."""
        for name in self._by_size.get(size, ()):
            if is_same_kind(self.refs[name].dtype, dtype):
                yield name

    def with_sum(
        self, size: int, total: int, dtype: DType, rounding: DType | None = None
    ) -> Iterator[str]:
        """Yields the names of tensors whose elements, in this dtype, have this sum of bits."""
        for name in self.of_size(size, dtype):
            key = (name, dtype.name, rounding.name if rounding is not None else "")
            if key not in self._sums:
                self._sums[key] = bit_sum(self.cast(name, dtype, rounding))
            if self._sums[key] == total:
                yield name


def cast(array: Array, dtype: DType, rounding: DType | None = None) -> Array:
    """Returns an array in another dtype, rounded to a third one before if that is given."""
    with np.errstate(over="ignore", invalid="ignore"):
        if rounding is not None and is_floating(array.dtype):
            array = array.astype(rounding)
        return array if array.dtype == dtype else array.astype(dtype)


def relative_step(dtype: DType) -> float:
    """Returns the distance from 1 to the next number of a floating-point dtype."""
    return float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]


def is_same_kind(one: DType, other: DType) -> bool:
    """Checks whether values of one dtype may be stored as the other without becoming another kind of number."""
    return _kind(one) == _kind(other)


def _kind(dtype: DType) -> str:
    if is_floating(dtype):
        return "float"
    return "integer" if dtype.kind in "iub" else dtype.kind
