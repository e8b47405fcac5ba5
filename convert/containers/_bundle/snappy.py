"""Decompresses the raw Snappy format."""

from __future__ import annotations

from equipoise.convert.containers._shared.protobuf import read_varint
from equipoise.convert.core.errors import ContainerError

_MAX_RATIO = 22
"""Three bytes copy at most 64 bytes."""


def decompress(data: bytes) -> bytes:
    """Returns the decompressed bytes of a block.

    Raises:
        ContainerError: The block is corrupt, or declares more bytes than it can hold.
    """
    length, position = read_varint(data, 0)
    if length > _MAX_RATIO * len(data):
        raise ContainerError("a compressed block declares more bytes than it can hold")
    out = bytearray()
    while position < len(data) and len(out) <= length:
        tag = data[position]
        step = _append_literal if tag & 3 == 0 else _append_copy
        position = step(data, position, out)
    if len(out) != length:
        raise ContainerError(
            "a compressed block is corrupt", expected=f"{length} bytes", found=f"{len(out)}"
        )
    return bytes(out)


def _append_literal(data: bytes, position: int, out: bytearray) -> int:
    """Appends literal bytes; returns the position after them."""
    length = (data[position] >> 2) + 1
    position += 1
    if length > 60:
        width = length - 60
        length = int.from_bytes(data[position : position + width], "little") + 1
        position += width
    if length > len(data) - position:
        raise ContainerError("a compressed block is truncated")
    out += data[position : position + length]
    return position + length


def _append_copy(data: bytes, position: int, out: bytearray) -> int:
    """Appends a copy of earlier output; returns the position after the instruction."""
    tag = data[position]
    if tag & 3 == 1:
        length, width = (tag >> 2 & 7) + 4, 1
        high = tag >> 5 << 8
    else:
        length, width = (tag >> 2) + 1, 2 if tag & 3 == 2 else 4
        high = 0
    offset = high | int.from_bytes(data[position + 1 : position + 1 + width], "little")
    if not 0 < offset <= len(out) or position + 1 + width > len(data):
        raise ContainerError("a compressed block refers to bytes before its start")
    pattern = out[-offset:][:length]
    out += (pattern * (length // len(pattern) + 1))[:length]
    return position + 1 + width
