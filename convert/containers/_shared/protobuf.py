"""Parses the wire format of protocol buffers, without a library and without copies of what a message holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from equipoise.convert.core.errors import ContainerError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10

Buffer = TypeVar("Buffer", bytes, memoryview)
"""Parts of a memoryview are memoryviews: a large message is not copied."""


def read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Returns the unsigned integer at a position, and the position after it.

    Raises:
        ContainerError: It does not end, or does not fit 64 bits.
    """
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if position + index >= len(data):
            break
        byte = data[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80 and value < 1 << 64:
            return value, position + index + 1
    raise ContainerError("an integer is corrupt", expected="a varint of at most 64 bits")


@dataclass(frozen=True)
class MessageField(Generic[Buffer]):
    """A field of a message.

    Attributes:
        number: Its number.
        integer: Its value if it is an integer, else None.
        raw: Its bytes if it is a string or message, else None.
    """

    number: int
    integer: int | None
    raw: Buffer | None

    def count(self) -> int:
        """Returns the value of a non-negative integer field.

        Raises:
            ContainerError: It is not a non-negative integer.
        """
        if self.integer is None or self.integer >> 63:
            raise ContainerError(f"field {self.number} of a message is not a non-negative integer")
        return self.integer

    def message(self) -> Buffer:
        """Returns the bytes of a string or message field.

        Raises:
            ContainerError: It is an integer.
        """
        if self.raw is None:
            raise ContainerError(f"field {self.number} of a message is not a string or message")
        return self.raw

    def text(self) -> str:
        """Returns the value of a string field.

        Raises:
            ContainerError: It is an integer, or not UTF-8.
        """
        try:
            return bytes(self.message()).decode()
        except UnicodeDecodeError:
            raise ContainerError(f"field {self.number} of a message is not UTF-8") from None


def read_fields(data: Buffer) -> Iterator[MessageField[Buffer]]:
    """Yields the fields of a message in order.

    Raises:
        ContainerError: The message is corrupt.
    """
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = read_varint(data, position)
            yield MessageField(number, value, None)
            continue
        if wire == _BYTES:
            length, position = read_varint(data, position)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ContainerError(f"a message has a field of unknown type {wire}")
        if length > len(data) - position:
            raise ContainerError("a message is truncated")
        raw = data[position : position + length]
        position += length
        if wire == _BYTES:
            yield MessageField(number, None, raw)
        else:
            yield MessageField(number, int.from_bytes(raw, "little"), None)
