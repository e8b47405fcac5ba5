"""A part of a file as a file of its own: an HDF5 file within a zip archive."""

from __future__ import annotations

import io
import os
from pathlib import Path

from equipoise.convert.core.tensor import Extent


class FileWindow(io.RawIOBase):
    """The bytes of a file from an offset on.

    Args:
        path: The file.
        start: Its first byte.
        size: Number of bytes; a window that is written to grows.
        writable: Whether it may be written to; the file must exist.
    """

    def __init__(self, path: Path, start: int, size: int = 0, *, writable: bool = False) -> None:
        super().__init__()
        self.size = size
        self._start = start
        self._at = 0
        self._writable = writable
        self._descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)

    @classmethod
    def of(cls, span: Extent) -> FileWindow:
        """Returns a window for reading."""
        return cls(span.path, span.offset, span.nbytes)

    def readable(self) -> bool:
        """Returns True."""
        return True

    def writable(self) -> bool:
        """Returns whether it may be written to."""
        return self._writable

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a position, and returns it."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        """Returns the position."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Reads bytes into a buffer; returns how many there were."""
        view = memoryview(buffer)[: max(0, self.size - self._at)]
        got = os.preadv(self._descriptor, [view], self._start + self._at) if len(view) else 0
        self._at += got
        return got

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        """Writes bytes; returns their number."""
        done = os.pwrite(self._descriptor, data, self._start + self._at)
        self._at += done
        self.size = max(self.size, self._at)
        return done

    def truncate(self, size: int | None = None) -> int:
        """Sets the size."""
        self.size = self._at if size is None else size
        os.ftruncate(self._descriptor, self._start + self.size)
        return self.size

    def close(self) -> None:
        """Closes the file."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
