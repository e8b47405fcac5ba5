"""Computes SHA-256 of files on threads beside the conversion."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from equipoise.convert.core.hashing import hash_file
from equipoise.convert.core.tensor import BLOCK_BYTES, Extent
from equipoise.convert.files.writeback import start_writeback

_FOLLOWED_BYTES = 8 * BLOCK_BYTES
"""How much of a growing file is hashed at once."""


class FileHasher:
    """Computes SHA-256 of files on background threads; hashlib releases the GIL while it works."""

    def __init__(self) -> None:
        # One thread for what is read and one for what is written: neither waits for the other.
        self._whole = ThreadPoolExecutor(1)
        self._growing = ThreadPoolExecutor(1)

    def file(self, path: Path) -> Future[str]:
        """Starts hashing a file."""
        return self._whole.submit(hash_file, path)

    def follow_file(self, path: Path) -> GrowingFileHash:
        """Returns a hash of a file that is still being written."""
        return GrowingFileHash(path, self._growing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for pool in (self._whole, self._growing):
            pool.shutdown(cancel_futures=True)


class GrowingFileHash:
    """SHA-256 of a growing file; reads what was just written while it is still in the page cache.

    It also has the system write to disk what is final, so that little is left to wait for at the end.

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
        if settled - self._requested >= _FOLLOWED_BYTES:
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
        start_writeback(self._path, self._done, end - self._done)
        for piece in Extent(self._path, self._done, end - self._done).blocks():
            self._state.update(piece)
        self._done = end
