"""Hashes tensors with BLAKE3 and files with SHA-256; checks the CRC-32C that TensorFlow stores.

Files have the hash that the Hub lists and that `sha256sum` prints. BLAKE3 takes a quarter of the time, little enough to be computed
by the thread that moves the bytes, while they are in its cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import google_crc32c
from blake3 import blake3


class HashState(Protocol):
    """A hash that is being computed."""

    def update(self, data: memoryview, /) -> object:
        """Adds bytes."""

    def hexdigest(self) -> str:
        """Returns the hexadecimal hash of all bytes so far."""


TENSOR_HASHES: dict[str, Callable[[], HashState]] = {"blake3": blake3, "sha256": hashlib.sha256}
"""Name of a hash of tensors -> what computes it."""


class PassingHash:
    """BLAKE3 of the blocks that pass through it."""

    def __init__(self) -> None:
        self._state = blake3()

    def tee(self, blocks: Iterable[memoryview]) -> Iterator[memoryview]:
        """Yields the blocks, each after it is hashed."""
        for block in blocks:
            self._state.update(block)
            yield block

    def hexdigest(self) -> str:
        """Returns the hexadecimal hash of all blocks so far."""
        return self._state.hexdigest()


def hash_blocks(blocks: Iterable[memoryview], algorithm: str = "blake3") -> str:
    """Returns the hexadecimal hash of consecutive blocks.

    Args:
        blocks: The blocks.
        algorithm: One of :data:`TENSOR_HASHES`.
    """
    state = TENSOR_HASHES[algorithm]()
    for block in blocks:
        state.update(block)
    return state.hexdigest()


def hash_file(path: Path) -> str:
    """Returns the hexadecimal SHA-256 of a file, like ``sha256sum``."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_CRC_MASK = 0xA282EAD8
_CRC_PIECE_BYTES = 1 << 20


def masked_crc32c(data: bytes) -> int:
    """Returns the CRC-32C of bytes, masked as in LevelDB: one of bytes that hold such a checksum would be weak."""
    return _masked(google_crc32c.value(data))


class PassingChecksum:
    """The masked CRC-32C of the blocks that pass through it."""

    def __init__(self) -> None:
        self._crc = 0

    def update(self, block: memoryview) -> None:
        """Adds a block."""
        view = memoryview(block).cast("B")
        for start in range(0, len(view), _CRC_PIECE_BYTES):
            # The library takes bytes alone; copies of pieces stay in the processor's cache.
            piece = bytes(view[start : start + _CRC_PIECE_BYTES])
            self._crc = google_crc32c.extend(self._crc, piece)

    def tee(self, blocks: Iterable[memoryview]) -> Iterator[memoryview]:
        """Yields the blocks, each after it is added."""
        for block in blocks:
            self.update(block)
            yield block

    def masked(self) -> int:
        """Returns the checksum of all blocks so far."""
        return _masked(self._crc)


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + _CRC_MASK) & 0xFFFFFFFF
