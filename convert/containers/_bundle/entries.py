"""Parses the messages in the index of a tensor bundle, and encodes the keys of slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.convert.containers._shared.protobuf import MessageField, read_fields
from equipoise.convert.core.errors import ContainerError

DTYPE_NAMES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    26: "float8_e4m3fnuz",
    27: "float8_e4m3b11fnuz",
    28: "float8_e5m2fnuz",
    29: "int4",
    30: "uint4",
    31: "int2",
    32: "uint2",
}
"""TensorFlow's ``DataType`` -> name in NumPy and ml_dtypes."""
NON_NUMERIC_DTYPES = ("string", "resource", "variant")
MAX_AXES = 32

Slice = tuple[tuple[int, int], ...]
"""Start and length along each axis; the length is -1 for the whole axis."""


@dataclass(frozen=True)
class BundleHeader:
    """The header of the index, its first entry.

    Attributes:
        shards: Number of data files.
        big_endian: Whether the tensors are big-endian.
    """

    shards: int
    big_endian: bool


@dataclass(frozen=True, slots=True)
class BundleEntry:
    """Location of a tensor.

    Attributes:
        dtype: Name of its dtype.
        shape: Sizes of the axes.
        shard: Number of the data file.
        offset: First byte in the data file.
        size: Number of bytes.
        slices: Its slices, which have their own entries.
        crc: The masked CRC-32C of its bytes; None where there is none.
    """

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    slices: tuple[Slice, ...]
    crc: int | None = None


def parse_header(data: bytes) -> BundleHeader | None:
    """Parses the header; returns None for version 1 of the format.

    Raises:
        ContainerError: It is corrupt.
    """
    shards = order = 0
    for field in read_fields(data):
        if field.number == 1 and field.raw is not None:
            return None
        if field.number == 1:
            shards = field.count()
        elif field.number == 2:
            order = field.count()
    if order > 1 or not shards:
        raise ContainerError("the header of the index is corrupt")
    return BundleHeader(shards, order == 1)


def parse_entry(data: bytes) -> BundleEntry:
    """Parses an entry.

    Raises:
        ContainerError: It is corrupt.
    """
    numbers = dict.fromkeys((1, 3, 4, 5), 0)
    shape: tuple[int, ...] = ()
    slices: list[Slice] = []
    crc: int | None = None
    for field in read_fields(data):
        if field.number == 6:
            crc = field.count()
        elif field.number in numbers:
            numbers[field.number] = field.count()
        elif field.number == 2:
            shape = _parse_shape(field.message())
        elif field.number == 7:
            slices.append(_parse_slice(field.message()))
    dtype = DTYPE_NAMES.get(numbers[1], f"number {numbers[1]} of TensorFlow")
    return BundleEntry(dtype, shape, numbers[3], numbers[4], numbers[5], tuple(slices), crc)


def _parse_shape(data: bytes) -> tuple[int, ...]:
    sizes: list[int] = []
    for field in read_fields(data):
        if field.number == 2:
            sizes.append(_last_count(field.message(), 1))
        elif field.number == 3 and field.count():
            raise ContainerError("a tensor has an unknown shape")
    if len(sizes) > MAX_AXES:
        raise ContainerError(f"a tensor has more than {MAX_AXES} axes")
    return tuple(sizes)


def _last_count(data: bytes, number: int) -> int:
    """Returns the last value of a count field; 0 if it is missing, as in protocol buffers."""
    found = [field.count() for field in read_fields(data) if field.number == number]
    return found[-1] if found else 0


def _parse_slice(data: bytes) -> Slice:
    axes = [_parse_extent(field) for field in read_fields(data) if field.number == 1]
    return tuple(axes)


def _parse_extent(field: MessageField[bytes]) -> tuple[int, int]:
    start, length = 0, -1
    for part in read_fields(field.message()):
        if part.number == 1:
            start = part.count()
        elif part.number == 2:
            length = part.count()
    return start, length


def slice_key(name: bytes, part: Slice) -> bytes:
    """Encodes the key of a slice: 0, name, number of axes, start and length of each (TensorFlow's OrderedCode)."""
    numbers = (number for axis in part for number in axis)
    return b"".join(
        (
            _unsigned_code(0),
            _escape(name),
            b"\0\1",
            _unsigned_code(len(part)),
            *map(_signed_code, numbers),
        )
    )


def _escape(name: bytes) -> bytes:
    special = {0: b"\0\xff", 255: b"\xff\0"}
    return b"".join(special.get(byte, bytes([byte])) for byte in name)


def _unsigned_code(value: int) -> bytes:
    """Encodes the length in bytes, then the big-endian value."""
    raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(raw)]) + raw


def _signed_code(value: int) -> bytes:
    """Encodes the number of bytes in the leading bits, then the value in two's complement."""
    magnitude = ~value if value < 0 else value
    length = magnitude.bit_length() // 7 + 1
    raw = bytearray(value.to_bytes(length + 2, "big", signed=True))[-length:]
    for bit in range(length):
        raw[bit // 8] ^= 0x80 >> bit % 8
    return bytes(raw)


def resolve_slices(parts: Sequence[Slice], shape: Sequence[int]) -> list[Slice]:
    """Returns the slices with all lengths filled in.

    Raises:
        ContainerError: A slice reaches beyond the shape.
    """
    out: list[Slice] = []
    for part in parts:
        if len(part) != len(shape):
            raise ContainerError("a slice and its tensor have different numbers of axes")
        filled = tuple(
            (start, size - start if length < 0 else length)
            for (start, length), size in zip(part, shape, strict=True)
        )
        inside = zip(filled, shape, strict=True)
        if any(length < 0 or start + length > size for (start, length), size in inside):
            raise ContainerError("a slice reaches beyond its tensor")
        out.append(filled)
    return out
