"""Writes tensor bytes into the slots of a file whose layout is fixed."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from equipoise.convert.containers._shared.checks import check_next, check_written
from equipoise.convert.containers._shared.writer_context import WriterContext
from equipoise.convert.core.errors import ContainerError

_NOWHERE = 2**63
"""Where the bytes of an empty tensor begin: after all others."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The byte ranges of a tensor in a file.

    Attributes:
        name: The tensor.
        segments: Pairs of offset and length, in the order of the bytes.
    """

    name: str
    segments: tuple[tuple[int, int], ...]

    @property
    def nbytes(self) -> int:
        """Number of bytes of the tensor."""
        return sum(length for _, length in self.segments)


class SlotFile:
    """A file with a fixed layout that receives the bytes of its slots in order.

    Args:
        path: The file, complete except for the tensors' bytes.
        slots: The slots to be filled.
    """

    def __init__(self, path: Path, slots: Sequence[Slot]) -> None:
        self._path = path
        self._slots = slots
        self._next = 0
        starts = (
            min((at for at, _ in slot.segments), default=_NOWHERE) for slot in reversed(slots)
        )
        self._open_from = array("Q", accumulate(starts, min, initial=path.stat().st_size))
        self._open_from.reverse()
        self._descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))

    def write(self, name: str, blocks: Iterable[memoryview]) -> None:
        """Writes the bytes of the next slot.

        Raises:
            ContainerError: Another tensor is next, or the bytes do not match its shape.
        """
        check_next(
            name,
            self._slots[self._next].name if self._next < len(self._slots) else None,
            self._path,
        )
        slot = self._slots[self._next]
        self._next += 1
        room = _SegmentCutter(slot.segments)
        done = 0
        for block in blocks:
            for offset, piece in room.cut(memoryview(block).cast("B")):
                write_all(self._descriptor, piece, offset)
            done += memoryview(block).nbytes
            if done > slot.nbytes:
                break
        check_written(name, done, slot.nbytes, self._path)

    @property
    def finished_bytes(self) -> int:
        """Number of leading bytes that are final: those before every slot that is not filled."""
        return self._open_from[self._next]

    def close(self) -> None:
        """Flushes the file to disk and closes it.

        Raises:
            ContainerError: Tensors are missing; the file is closed and incomplete.
        """
        try:
            if self._next < len(self._slots):
                raise ContainerError(
                    "the file was closed before all tensors were written",
                    file=self._path,
                    tensor=self._slots[self._next].name,
                )
            if self._descriptor >= 0:
                os.fsync(self._descriptor)
        finally:
            self.release()

    def release(self) -> None:
        """Closes the descriptor in any state."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class _SegmentCutter:
    """Splits a stream of bytes into the segments of a slot."""

    def __init__(self, segments: Sequence[tuple[int, int]]) -> None:
        self._rest = [segment for segment in reversed(segments) if segment[1]]

    def cut(self, view: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yields (offset, piece) for the pieces of ``view``; drops bytes after the last segment."""
        while len(view) and self._rest:
            offset, length = self._rest.pop()
            piece, view = view[:length], view[length:]
            if len(piece) < length:
                self._rest.append((offset + len(piece), length - len(piece)))
            yield offset, piece


def write_all(descriptor: int, view: memoryview, offset: int) -> None:
    """Writes bytes at an offset of an open file."""
    # pwrite writes at most 2 GiB on Linux.
    while len(view):
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done


def create_file(path: Path, pieces: Iterable[tuple[int, bytes | bytearray]], size: int) -> None:
    """Creates a file of ``size`` bytes with ``pieces`` at their offsets."""
    with open(path, "wb", buffering=0) as file:
        file.truncate(size)
        for offset, data in pieces:
            write_all(file.fileno(), memoryview(data), offset)


class SlotWriter(WriterContext):
    """Base of writers that compute the whole layout first; ``__init__`` sets ``_file``."""

    _file: SlotFile

    def write(self, name: str, blocks: Iterable[memoryview]) -> None:
        """Writes the bytes of the next header that is not an alias, in C order."""
        self._file.write(name, blocks)

    @property
    def finished_bytes(self) -> int:
        """Number of leading bytes of the file that are final."""
        return self._file.finished_bytes

    def close(self) -> None:
        """Finishes the file and flushes it to disk."""
        self._file.close()

    def abort(self) -> None:
        """Closes the unfinished file."""
        self._file.release()
