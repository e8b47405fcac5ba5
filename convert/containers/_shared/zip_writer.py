"""Writes zip archives like PyTorch: uncompressed entries, aligned to 64 bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from equipoise.convert.containers._shared.slot_file import write_all

ALIGNMENT = 64
_ZIP64_LIMIT = 0xFFFFFFFF
_UTF8 = 0x0800
_DATE_1980 = 0x21
_ZIP64_VERSION = 45


@dataclass(frozen=True, slots=True)
class ZipRecord:
    """An entry that is to be written.

    Attributes:
        name: Its name in the archive.
        size: Number of bytes.
        header: Offset of its local header.
        offset: Offset of its bytes.
    """

    name: bytes
    size: int
    header: int
    offset: int

    @property
    def end(self) -> int:
        """Offset after its bytes."""
        return self.offset + self.size

    def local(self, crc: int) -> bytes:
        """Returns the local header."""
        wide = self.size >= _ZIP64_LIMIT
        extra = struct.pack("<HHQQ", 1, 16, self.size, self.size) if wide else b""
        padding = self.offset - self.header - _local_length(self.name, self.size)
        extra += struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        size = min(self.size, _ZIP64_LIMIT)
        fields = (
            b"PK\3\4",
            _ZIP64_VERSION if wide else 20,
            _UTF8,
            0,
            0,
            _DATE_1980,
            crc,
            size,
            size,
        )
        return struct.pack("<4s5H3I2H", *fields, len(self.name), len(extra)) + self.name + extra

    def central(self, crc: int) -> bytes:
        """Returns the entry of the central directory."""
        wide = [value for value in (self.size, self.size, self.header) if value >= _ZIP64_LIMIT]
        extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        version = _ZIP64_VERSION if wide else 20
        size = min(self.size, _ZIP64_LIMIT)
        fields = (b"PK\1\2", version, version, _UTF8, 0, 0, _DATE_1980, crc, size, size)
        tail = (len(self.name), len(extra), 0, 0, 0, 0, min(self.header, _ZIP64_LIMIT))
        return struct.pack("<4s6H3I5H2I", *fields, *tail) + self.name + extra


def _local_length(name: bytes, size: int) -> int:
    """Returns the length of a local header without padding."""
    return 30 + len(name) + (20 if size >= _ZIP64_LIMIT else 0) + 4


def place_records(entries: Iterable[tuple[str, int]]) -> Iterator[ZipRecord]:
    """Assigns consecutive offsets to entries of these names and sizes."""
    position = 0
    for name, size in entries:
        raw = name.encode()
        start = position + _local_length(raw, size)
        record = ZipRecord(raw, size, position, start + -start % ALIGNMENT)
        yield record
        position = record.end


def central_directory(records: Iterable[ZipRecord], crcs: Sequence[int], start: int) -> bytearray:
    """Returns the central directory with its zip64 and plain end records.

    Args:
        records: The entries.
        crcs: Their checksums.
        start: Where the directory begins.
    """
    body = bytearray()
    for record, crc in zip(records, crcs, strict=True):
        body += record.central(crc)
    count = len(crcs)
    end = start + len(body)
    size = len(body)
    end64 = struct.pack(
        "<4sQ2H2I4Q",
        *(b"PK\6\6", 44, _ZIP64_VERSION, _ZIP64_VERSION, 0, 0, count, count, size, start),
    )
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    few = min(count, 0xFFFF)
    plain = struct.pack(
        "<4s4H2IH",
        b"PK\5\6",
        0,
        0,
        few,
        few,
        min(size, _ZIP64_LIMIT),
        min(start, _ZIP64_LIMIT),
        0,
    )
    body += end64 + locator + plain
    return body


def write_record(
    descriptor: int, record: ZipRecord, blocks: Iterable[memoryview | bytes]
) -> tuple[int, int]:
    """Writes an entry at its offset; returns its CRC and the number of bytes received.

    Stops early if there are more bytes than the entry's size.
    """
    crc = written = 0
    for block in blocks:
        if written + len(block) > record.size:
            return crc, written + len(block)
        write_all(descriptor, memoryview(block), record.offset + written)
        written += len(block)
        crc = zlib.crc32(block, crc)
    write_all(descriptor, memoryview(record.local(crc)), record.header)
    return crc, written
