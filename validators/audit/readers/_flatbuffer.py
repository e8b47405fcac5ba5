"""Reads tables of a flatbuffer by their field numbers, checking every offset."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.arrays import Array, DType
from equipoise.convert.core.errors import ContainerError


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        data: The whole buffer.
        position: Offset of the table.
    """

    data: memoryview
    position: int

    def integer(self, field: int, code: str = "I", default: int = 0) -> int:
        """Returns an integer field, whose type is a code of :mod:`struct`."""
        at = self._field(field)
        return default if at is None else int(_unpack(self.data, at, code))

    def text(self, field: int) -> str:
        """Returns a string field; empty if it is missing."""
        found = self.bytes(field)
        return "" if found is None else bytes(found).decode("utf-8", "replace")

    def bytes(self, field: int) -> memoryview | None:
        """Returns the bytes of a field that is a string or a vector of bytes."""
        at = self._target(field)
        if at is None:
            return None
        return _slice(self.data, at + 4, _unpack(self.data, at, "I"))

    def array(self, field: int, dtype: DType) -> Array:
        """Returns a vector of numbers; empty if it is missing."""
        at = self._target(field)
        if at is None:
            return np.zeros(0, dtype)
        count = _unpack(self.data, at, "I")
        return np.frombuffer(_slice(self.data, at + 4, count * dtype.itemsize), dtype)

    def table(self, field: int) -> Table | None:
        """Returns a table that is a field."""
        at = self._target(field)
        return None if at is None else Table(self.data, at)

    def tables(self, field: int) -> Iterator[Table]:
        """Yields the tables of a vector."""
        at = self._target(field)
        if at is not None:
            count = _unpack(self.data, at, "I")
            _slice(self.data, at + 4, 4 * count)
            for place in range(at + 4, at + 4 + 4 * count, 4):
                yield Table(self.data, place + _unpack(self.data, place, "I"))

    def _field(self, field: int) -> int | None:
        """Returns the offset of a field; None if it is missing."""
        vtable = self.position - _unpack(self.data, self.position, "i")
        entry = 4 + 2 * field
        if vtable < 0 or entry + 2 > _unpack(self.data, vtable, "H"):
            return None
        offset = _unpack(self.data, vtable + entry, "H")
        return self.position + offset if offset else None

    def _target(self, field: int) -> int | None:
        at = self._field(field)
        return None if at is None else at + int(_unpack(self.data, at, "I"))


def root_table(data: memoryview) -> Table:
    """Returns the table that a buffer begins with.

    Raises:
        ContainerError: The buffer is too short, here or wherever an offset leads.
    """
    return Table(data, _unpack(data, 0, "I"))


def _unpack(data: memoryview, at: int, code: str) -> int:
    size = struct.calcsize(f"<{code}")
    return int(struct.unpack(f"<{code}", _slice(data, at, size))[0])


def _slice(data: memoryview, at: int, length: int) -> memoryview:
    if at < 0 or at + length > len(data):
        raise ContainerError("the flatbuffer is corrupt: an offset lies outside of the file")
    return data[at : at + length]
