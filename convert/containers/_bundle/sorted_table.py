"""Reads LevelDB's sorted table, the index of a TensorFlow checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from equipoise.convert.containers._bundle.snappy import decompress
from equipoise.convert.containers._shared.protobuf import read_varint
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.hashing import masked_crc32c

TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_RAW, _SNAPPY = 0, 1
MAX_KEY_BYTES = 8192
_MAX_TOTAL_KEY_BYTES = 64 << 20
"""Limit for all keys together: prefix compression lets a byte stand for a long key."""


class SortedTable:
    """Reads a table from its file.

    Args:
        path: The file.

    Raises:
        ContainerError: It is not a sorted table.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        footer = self._read_at(self._size - FOOTER_BYTES, FOOTER_BYTES)
        if footer[-8:] != TABLE_MAGIC:
            raise self._error("not the index of a TensorFlow checkpoint; it may be truncated")
        _, position = read_varint(footer, 0)
        _, position = read_varint(footer, position)
        self._index, position = read_varint(footer, position)
        self._index_length, _ = read_varint(footer, position)

    def _error(self, why: str) -> ContainerError:
        return ContainerError(why, file=self._path)

    def _read_at(self, offset: int, length: int) -> bytes:
        if offset < 0 or length > self._size - offset:
            raise self._error("the index is truncated")
        with open(self._path, "rb", buffering=0) as file:
            data = os.pread(file.fileno(), length, offset)
        if len(data) != length:
            raise self._error("the index is truncated")
        return data

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Yields keys and values in ascending order of the keys.

        Raises:
            ContainerError: The table is corrupt, or a key is duplicated.
        """
        before: bytes | None = None
        end = 0
        budget = _MAX_TOTAL_KEY_BYTES
        for _, handle in self._read_block(self._index, self._index_length):
            offset, position = read_varint(handle, 0)
            length, _ = read_varint(handle, position)
            if offset < end:
                raise self._error("blocks overlap")
            end = offset + length + _TRAILER_BYTES
            for key, value in self._read_block(offset, length):
                if before is not None and key <= before:
                    raise self._error(f"the key {ascii(key)[1:80]} is duplicated or out of order")
                before = key
                budget -= len(key)
                if budget < 0:
                    raise self._error("the keys are too long together")
                yield key, value

    def _read_block(self, offset: int, length: int) -> Iterator[tuple[bytes, bytes]]:
        stored = self._read_at(offset, length + _TRAILER_BYTES)
        kind = stored[length]
        checksum = int.from_bytes(stored[length + 1 :], "little")
        if masked_crc32c(stored[: length + 1]) != checksum:
            raise self._error(f"the block at byte {offset} does not match its CRC")
        if kind == _SNAPPY:
            return self._parse_block(decompress(stored[:length]))
        if kind != _RAW:
            raise self._error(f"the block at byte {offset} has an unknown compression")
        return self._parse_block(stored[:length])

    def _parse_block(self, block: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yields the entries of a block: length of the shared prefix, rest of the key, value."""
        restarts = int.from_bytes(block[-4:], "little")
        end = len(block) - 4 * (restarts + 1)
        if end < 0:
            raise self._error("a block is corrupt")
        position = 0
        key = b""
        while position < end:
            shared, position = read_varint(block, position)
            fresh, position = read_varint(block, position)
            length, position = read_varint(block, position)
            if (
                shared > len(key)
                or shared + fresh > MAX_KEY_BYTES
                or fresh + length > end - position
            ):
                raise self._error("a block is corrupt")
            key = key[:shared] + block[position : position + fresh]
            position += fresh
            yield key, block[position : position + length]
            position += length
