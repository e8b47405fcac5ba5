"""Reads zip archives strictly: unique names, no overlaps, limited decompression."""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import Extent

_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_MAX_COMMENT = 0xFFFF
_DEFLATE_RATIO = 1040
"""Deflate compresses at most 1032 to 1."""
_STORED, _DEFLATED = 0, 8
NO_CRC = 0
"""CRC field after ``torch.serialization.set_crc32_options(False)``."""


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """An entry of the archive.

    Attributes:
        name: Its name in the archive.
        offset: Offset of its bytes in the file.
        stored: Number of stored bytes.
        size: Number of uncompressed bytes.
        crc: CRC-32 of the uncompressed bytes.
        deflated: Whether they are compressed.
    """

    name: str
    offset: int
    stored: int
    size: int
    crc: int
    deflated: bool


@dataclass(frozen=True)
class ZipArchive:
    """An archive with a checked directory.

    Attributes:
        path: The file.
        entries: By name.
    """

    path: Path
    entries: Mapping[str, ZipEntry]

    def extent(self, entry: ZipEntry) -> Extent:
        """Returns the byte range of the stored bytes."""
        return Extent(self.path, entry.offset, entry.stored)

    def read(self, entry: ZipEntry, limit: int | None = None) -> bytes:
        """Reads the uncompressed bytes and checks the CRC if there is one.

        Raises:
            ContainerError: They are corrupt, or more than ``limit``.
        """
        if limit is not None and max(entry.size, entry.stored) > limit:
            raise ContainerError(
                f"the record {entry.name!r} is too large",
                file=self.path,
                expected=f"at most {limit} bytes",
                found=f"{entry.size} bytes",
            )
        raw = self.extent(entry).read().tobytes()
        if entry.deflated:
            raw = self._inflate(entry, raw)
        checked = entry.crc == NO_CRC or zlib.crc32(raw) == entry.crc
        if len(raw) != entry.size or not checked:
            raise ContainerError(
                f"the record {entry.name!r} does not match its CRC", file=self.path
            )
        return raw

    def _inflate(self, entry: ZipEntry, raw: bytes) -> bytes:
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, entry.size + 1)
        except zlib.error as error:
            raise ContainerError(
                f"the record {entry.name!r} is damaged: {error}", file=self.path
            ) from error


class InflatedRecord:
    """The uncompressed bytes of a record, which is decompressed once however many tensors are views of it.

    Args:
        archive: The archive.
        entry: The compressed record.

    Attributes:
        views: How many tensors are views of it. The bytes of a record with several are kept in a temporary file.
    """

    def __init__(self, archive: ZipArchive, entry: ZipEntry) -> None:
        self.views = 0
        self._archive = archive
        self._entry = entry
        self._kept: Array | None = None

    def read(self) -> Array:
        """Returns the bytes as a uint8 array.

        Raises:
            ContainerError: They are corrupt.
        """
        if self._kept is not None:
            return self._kept
        data = np.frombuffer(self._archive.read(self._entry), np.uint8)
        if self.views < 2 or not len(data):
            return data
        with tempfile.TemporaryFile() as file:
            data.tofile(file)
            self._kept = np.memmap(file, np.uint8, mode="r")
        return self._kept


def read_zip(path: Path, span: Extent | None = None) -> ZipArchive:
    """Reads and checks the directory of an archive.

    Args:
        path: The file.
        span: The part of the file that is the archive; None for all of it.

    Raises:
        ContainerError: The archive is corrupt, ambiguous or encrypted.
    """
    with open(path, "rb") as file:
        return ZipArchive(path, _CentralDirectory(path, file, span).entries())


class _CentralDirectory:
    """The central directory of an archive in an open file; offsets count from the archive's first byte."""

    def __init__(self, path: Path, file: BinaryIO, span: Extent | None) -> None:
        self._path = path
        self._file = file
        self._start = span.offset if span is not None else 0
        self._size = span.nbytes if span is not None else file.seek(0, 2)

    def entries(self) -> dict[str, ZipEntry]:
        start, length, count = self._bounds()
        directory = self._read_at(start, length)
        spans: list[tuple[int, int]] = []
        entries: dict[str, ZipEntry] = {}
        position = 0
        for _ in range(count):
            position = self._entry(directory, position, entries, spans)
        if position != length:
            self._fail("the directory holds more than its entries")
        spans.sort()
        ends = [end for _, end in spans]
        starts = [begin for begin, _ in spans[1:]] + [start]
        if any(end > begin for end, begin in zip(ends, starts, strict=bool(spans))):
            self._fail("entries overlap")
        return entries

    def _fail(self, why: str) -> NoReturn:
        raise ContainerError(f"not a valid zip archive: {why}", file=self._path)

    def _read_at(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0 or offset + length > self._size:
            self._fail("an offset lies outside of the file; it may be truncated")
        return os.pread(self._file.fileno(), length, self._start + offset)

    def _bounds(self) -> tuple[int, int, int]:
        """Returns offset and length of the directory, and its number of entries."""
        tail_length = min(self._size, _END.size + _MAX_COMMENT)
        tail = self._read_at(self._size - tail_length, tail_length)
        found = tail.rfind(b"PK\5\6")
        if found < 0 or len(tail) - found < _END.size:
            self._fail("no end of the directory; the file may be truncated")
        fields = _END.unpack_from(tail, found)
        end = self._size - tail_length + found
        _, disk, first_disk, _, count, length, start, comment = fields
        if disk or first_disk or end + _END.size + comment != self._size:
            self._fail("bytes behind its end, or several disks")
        if end >= _LOCATOR.size:
            locator = _LOCATOR.unpack(self._read_at(end - _LOCATOR.size, _LOCATOR.size))
            if locator[0] == b"PK\6\7":
                end, count, length, start = self._bounds64(locator[2])
        if start + length != end:
            self._fail("the directory does not end where it should")
        return start, length, count

    def _bounds64(self, end: int) -> tuple[int, int, int, int]:
        fields = _END64.unpack(self._read_at(end, _END64.size))
        if fields[0] != b"PK\6\6" or fields[4] or fields[5]:
            self._fail("the zip64 end is corrupt")
        _, count, length, start = fields[6:]
        if count * _CENTRAL.size > length:
            self._fail("more entries than fit the directory")
        return end, count, length, start

    def _entry(
        self,
        directory: bytes,
        position: int,
        entries: dict[str, ZipEntry],
        spans: list[tuple[int, int]],
    ) -> int:
        """Reads the entry at a position of the directory; returns the position of the next."""
        if position + _CENTRAL.size > len(directory):
            self._fail("the directory is truncated")
        fields = _CENTRAL.unpack_from(directory, position)
        _, _, _, flags, method, _, _, crc, stored, size, n_name, n_extra, n_comment, *_, at = fields
        name_at = position + _CENTRAL.size
        extra_at = name_at + n_name
        end = extra_at + n_extra + n_comment
        if fields[0] != b"PK\1\2" or end > len(directory):
            self._fail("the directory is corrupt")
        raw_name = directory[name_at:extra_at]
        name = self._name(raw_name)
        if name in entries:
            self._fail(f"two entries are named {name!r}")
        if flags & 0x2041:
            self._fail(f"{name!r} is encrypted")
        extra = directory[extra_at : extra_at + n_extra]
        size, stored, at = self._apply_zip64(extra, (size, stored, at))
        offset = self._data_offset(at, raw_name)
        if method not in (_STORED, _DEFLATED) or (method == _STORED and stored != size):
            self._fail(f"{name!r} has an unknown compression")
        if size > stored * _DEFLATE_RATIO or offset + stored > self._size:
            self._fail(f"{name!r} declares more bytes than there are")
        here = self._start + offset
        entries[name] = ZipEntry(name, here, stored, size, crc, method == _DEFLATED)
        spans.append((at, offset + stored))
        return int(end)

    def _name(self, raw: bytes) -> str:
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            self._fail(f"an entry is named {raw!r}")
        if "\\" in name or "\0" in name or ".." in name.split("/") or name.startswith("/"):
            self._fail(f"an entry is named {name!r}, which leaves the archive")
        return name

    def _apply_zip64(self, extra: bytes, values: tuple[int, int, int]) -> list[int]:
        """Returns size, stored size and offset, replaced by those of the zip64 field where needed."""
        position = 0
        while position + 4 <= len(extra):
            kind, length = struct.unpack_from("<HH", extra, position)
            field = extra[position + 4 : position + 4 + length]
            if kind == 1:
                wide = [value for (value,) in struct.iter_unpack("<Q", field[: length // 8 * 8])]
                missing = values.count(0xFFFFFFFF)
                if len(wide) < missing or len(field) != length:
                    self._fail("a zip64 field is corrupt")
                return [wide.pop(0) if value == 0xFFFFFFFF else value for value in values]
            position += 4 + length
        return list(values)

    def _data_offset(self, header: int, raw_name: bytes) -> int:
        local = self._read_at(header, _LOCAL.size + len(raw_name))
        fields = _LOCAL.unpack_from(local)
        name_length, extra_length = fields[-2:]
        if fields[0] != b"PK\3\4" or name_length != len(raw_name):
            self._fail(f"the entry {raw_name!r} is not where the directory says")
        if local[_LOCAL.size :] != raw_name:
            self._fail(f"the entry {raw_name!r} has another name in its own header")
        return int(header + _LOCAL.size + name_length + extra_length)
