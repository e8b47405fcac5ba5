"""The CRC-32C of LevelDB and of tensor bundles, masked: one of bytes that hold such a checksum would be weak."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import google_crc32c

_MASK = 0xA282EAD8
_PIECE_BYTES = 1 << 20


def masked_crc32c(data: bytes) -> int:
    """Returns the masked CRC-32C of bytes."""
    return _masked(google_crc32c.value(data))


class PassingChecksum:
    """Computes the checksum of blocks while they pass."""

    def __init__(self) -> None:
        self._crc = 0

    def tee(self, blocks: Iterable[memoryview]) -> Iterator[memoryview]:
        """Yields the blocks."""
        for block in blocks:
            view = memoryview(block).cast("B")
            for start in range(0, len(view), _PIECE_BYTES):
                # The library takes bytes alone, and copies of pieces stay in the processor's cache.
                piece = bytes(view[start : start + _PIECE_BYTES])
                self._crc = google_crc32c.extend(self._crc, piece)
            yield block

    def masked(self) -> int:
        """Returns the masked CRC-32C of what has passed."""
        return _masked(self._crc)


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
