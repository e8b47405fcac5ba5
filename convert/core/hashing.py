"""Hashes tensors with BLAKE3 and files with SHA-256.

Files have the hash that the Hub lists and that `sha256sum` prints. BLAKE3 takes a quarter of the time, little enough to be computed
by the thread that moves the bytes, while they are in its cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

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
