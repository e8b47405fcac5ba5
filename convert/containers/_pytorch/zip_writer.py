"""Writes zip archives like PyTorch: uncompressed entries, aligned to 64 bytes."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

ALIGNMENT = 64
_ZIP64_LIMIT = 0xFFFFFFFF
_UTF8 = 0x0800
_CRC_OFFSET = 14
_DATE_1980 = 0x21
_ZIP64_VERSION = 45


@dataclass(frozen=True)
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

    def local(self) -> bytes:
        """Returns the local header; the CRC is filled in later."""
        wide = self.size >= _ZIP64_LIMIT
        extra = struct.pack("<HHQQ", 1, 16, self.size, self.size) if wide else b""
        padding = self.offset - self.header - _local_length(self.name, self.size)
        extra += struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        size = min(self.size, _ZIP64_LIMIT)
        fields = (b"PK\3\4", _ZIP64_VERSION if wide else 20, _UTF8, 0, 0, _DATE_1980, 0, size, size)
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


def place_records(entries: Sequence[tuple[str, int]]) -> list[ZipRecord]:
    """Assigns consecutive offsets to entries of these names and sizes."""
    records: list[ZipRecord] = []
    position = 0
    for name, size in entries:
        raw = name.encode()
        start = position + _local_length(raw, size)
        records.append(ZipRecord(raw, size, position, start + -start % ALIGNMENT))
        position = records[-1].end
    return records


def central_directory(records: Sequence[ZipRecord], crcs: Sequence[int]) -> bytes:
    """Returns the central directory with its zip64 and plain end records."""
    start = records[-1].end
    body = b"".join(record.central(crc) for record, crc in zip(records, crcs, strict=True))
    count = len(records)
    end = start + len(body)
    end64 = struct.pack(
        "<4sQ2H2I4Q",
        *(b"PK\6\6", 44, _ZIP64_VERSION, _ZIP64_VERSION, 0, 0, count, count, len(body), start),
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
        min(len(body), _ZIP64_LIMIT),
        min(start, _ZIP64_LIMIT),
        0,
    )
    return body + end64 + locator + plain


def write_record(
    file: BinaryIO, record: ZipRecord, blocks: Iterable[memoryview | bytes]
) -> tuple[int, int]:
    """Writes an entry at its offset; returns its CRC and the number of bytes received.

    Stops early if there are more bytes than the entry's size.
    """
    file.seek(record.header)
    file.write(record.local())
    crc = written = 0
    for block in blocks:
        written += len(block)
        if written > record.size:
            return crc, written
        file.write(block)
        crc = zlib.crc32(block, crc)
    file.flush()
    os.pwrite(file.fileno(), struct.pack("<I", crc), record.header + _CRC_OFFSET)
    return crc, written
