"""SHA-256 of tensors and files, computed beside the work on another thread."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from equipoise.convert.tensor import BLOCK_BYTES, Array, array_blocks


class Hashing:
    """Hashes on background threads; hashlib lets go of the interpreter lock while it works."""

    def __init__(self) -> None:
        self._tensors = ThreadPoolExecutor(1)
        self._files = ThreadPoolExecutor(1)

    def array(self, array: Array) -> Future[str]:
        """Starts hashing a C-contiguous array, which must not change until the result is there."""
        return self._tensors.submit(hash_blocks, array_blocks(array))

    def file(self, path: Path) -> Future[str]:
        """Starts hashing a file."""
        return self._files.submit(hash_file, path)

    def passing(self, blocks: Iterable[memoryview], digest: list[str]) -> Iterator[memoryview]:
        """Passes blocks on while they are hashed; puts the result into ``digest`` at the end."""
        state = hashlib.sha256()
        for block in blocks:
            work = self._tensors.submit(state.update, block)
            yield block
            work.result()  # the buffer is used again for the next block
        digest.append(state.hexdigest())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tensors.shutdown(cancel_futures=True)
        self._files.shutdown(cancel_futures=True)


def hash_blocks(blocks: Iterable[memoryview]) -> str:
    """SHA-256 of blocks one after the other, in hexadecimal."""
    state = hashlib.sha256()
    for block in blocks:
        state.update(block)
    return state.hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file, as ``sha256sum`` gives it."""
    state = hashlib.sha256()
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(buffer):
            state.update(buffer[:size])
    return state.hexdigest()
