"""Computes SHA-256 of tensors and files on background threads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import BoundedSemaphore
from typing import Self

from equipoise.convert.core.arrays import Array
from equipoise.convert.core.tensor import BLOCK_BYTES, Extent, array_blocks

_MAX_PENDING_PIECES = 8
"""Largest number of pieces that wait for hashing; bounds the memory."""


class BackgroundHasher:
    """Hashes on background threads; hashlib releases the GIL while it works."""

    def __init__(self) -> None:
        # One thread each, so that jobs run in the order of their submission.
        self._sources = ThreadPoolExecutor(1)
        self._targets = ThreadPoolExecutor(1)
        self._following = ThreadPoolExecutor(1)
        self._files = ThreadPoolExecutor(1)

    def hash_array(self, array: Array) -> Future[str]:
        """Starts hashing a C-contiguous array, which must not change until the result is available."""
        return self._sources.submit(hash_blocks, array_blocks(array))

    def file(self, path: Path) -> Future[str]:
        """Starts hashing a file."""
        return self._files.submit(hash_file, path)

    def new_stream(self) -> StreamHash:
        """Returns a hash that is fed piece by piece; one must be complete before the next one starts."""
        return StreamHash(self._targets)

    def follow_file(self, path: Path) -> GrowingFileHash:
        """Returns a hash of a file that is still being written."""
        return GrowingFileHash(path, self._following)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for pool in (self._sources, self._targets, self._following, self._files):
            pool.shutdown(cancel_futures=True)


class StreamHash:
    """SHA-256 of a stream of pieces.

    Args:
        pool: A pool of one thread.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._state = hashlib.sha256()
        self._room = BoundedSemaphore(_MAX_PENDING_PIECES)

    def tee(self, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        """Yields the pieces and hashes them; they must not change afterwards."""
        for piece in pieces:
            self._room.acquire()
            self._pool.submit(self._update, piece)
            yield piece

    def _update(self, piece: memoryview) -> None:
        self._state.update(piece)
        self._room.release()

    def result(self) -> Future[str]:
        """Returns the hexadecimal hash of all pieces."""
        return self._pool.submit(self._state.hexdigest)


class GrowingFileHash:
    """SHA-256 of a growing file; reads what was just written while it is still in the page cache.

    Args:
        path: The file.
        pool: A pool of one thread.
    """

    def __init__(self, path: Path, pool: ThreadPoolExecutor) -> None:
        self._path = path
        self._pool = pool
        self._state = hashlib.sha256()
        self._requested = 0
        self._done = 0
        self._jobs: list[Future[None]] = []

    def hash_up_to(self, settled: int) -> None:
        """Schedules hashing up to this offset; these bytes must not change any more."""
        if settled - self._requested >= BLOCK_BYTES:
            self._requested = settled
            self._jobs.append(self._pool.submit(self._read, settled))

    def result(self) -> Future[str]:
        """Returns the hash of the finished file."""
        return self._pool.submit(self._finish)

    def _finish(self) -> str:
        for job in self._jobs:
            job.result()
        self._read(self._path.stat().st_size)
        return self._state.hexdigest()

    def _read(self, end: int) -> None:
        for piece in Extent(self._path, self._done, end - self._done).blocks():
            self._state.update(piece)
        self._done = end


def hash_blocks(blocks: Iterable[memoryview]) -> str:
    """Returns the hexadecimal SHA-256 of consecutive blocks."""
    state = hashlib.sha256()
    for block in blocks:
        state.update(block)
    return state.hexdigest()


def hash_file(path: Path) -> str:
    """Returns the hexadecimal SHA-256 of a file, like ``sha256sum``."""
    state = hashlib.sha256()
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(buffer):
            state.update(buffer[:size])
    return state.hexdigest()
