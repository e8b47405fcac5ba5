"""Encodes the messages in the index of a tensor bundle (``tensorflow/core/protobuf/tensor_bundle.proto``)."""

from __future__ import annotations

from equipoise.convert.containers._bundle.entries import DTYPE_NAMES, BundleEntry

_NUMBER_OF_DTYPE = {name: number for number, name in DTYPE_NAMES.items()}
_VARINT, _BYTES, _FIXED32 = 0, 2, 5


def varint(value: int) -> bytes:
    r"""Returns an unsigned integer in groups of seven bits, the lowest first.

    >>> varint(300)
    b'\xac\x02'
    """
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*groups, value))


def encode_header(shards: int) -> bytes:
    """Returns the header: the number of data files, little-endian, version 1 of the format."""
    return _integer(1, shards) + _message(3, _integer(1, 1))


def encode_entry(entry: BundleEntry) -> bytes:
    """Returns the entry of a tensor that is stored whole."""
    axes = b"".join(_message(2, _integer(1, size)) for size in entry.shape)
    numbers = (_integer(3, entry.shard), _integer(4, entry.offset), _integer(5, entry.size))
    return b"".join(
        (
            _integer(1, _NUMBER_OF_DTYPE[entry.dtype]),
            _message(2, axes),
            *numbers,
            varint(6 << 3 | _FIXED32),
            (entry.crc or 0).to_bytes(4, "little"),
        )
    )


def _integer(number: int, value: int) -> bytes:
    """Returns a field; zero is left out, as protocol buffers do."""
    return varint(number << 3 | _VARINT) + varint(value) if value else b""


def _message(number: int, data: bytes) -> bytes:
    return varint(number << 3 | _BYTES) + varint(len(data)) + data
