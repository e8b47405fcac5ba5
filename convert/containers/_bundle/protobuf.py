"""The wire format of protocol buffers, read by hand: three small messages need no library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from equipoise.convert.core.errors import ContainerError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The unsigned integer at that position, and the position behind it.

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
    raise ContainerError("an integer is damaged", expected="a varint of at most 64 bits")


@dataclass(frozen=True)
class MessageField:
    """A field of a message.

    Attributes:
        number: Its number.
        integer: Its value when it is one, else None.
        raw: Its bytes when it is a text or a message, else None.
    """

    number: int
    integer: int | None
    raw: bytes | None

    def count(self) -> int:
        """The value, where the message has a number that is not negative.

        Raises:
            ContainerError: It has none.
        """
        if self.integer is None or self.integer >> 63:
            raise ContainerError(f"field {self.number} of a message is no count")
        return self.integer

    def message(self) -> bytes:
        """The bytes, where the message has a text or another message.

        Raises:
            ContainerError: It has a number.
        """
        if self.raw is None:
            raise ContainerError(f"field {self.number} of a message is no text or message")
        return self.raw


def read_fields(data: bytes) -> Iterator[MessageField]:
    """The fields of a message in order.

    Raises:
        ContainerError: The message is damaged.
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
