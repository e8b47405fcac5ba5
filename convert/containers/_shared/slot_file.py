"""The part of a writer that comes after the layout: bytes into the places that wait for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Self

from equipoise.convert.core.errors import ContainerError


@dataclass(frozen=True)
class Slot:
    """Where a tensor's bytes go.

    Attributes:
        name: The tensor.
        segments: Pairs of offset and length, in the order of the bytes.
    """

    name: str
    segments: tuple[tuple[int, int], ...]

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor has."""
        return sum(length for _, length in self.segments)


class SlotFile:
    """A laid-out file that takes each slot's bytes, in the order of the slots.

    Args:
        path: The file; it exists and holds everything but the tensors' bytes.
        slots: What is still to come.
    """

    def __init__(self, path: Path, slots: Sequence[Slot]) -> None:
        self._path = path
        self._slots = tuple(slots)
        self._next = 0
        starts = [min((at for at, _ in slot.segments), default=sys.maxsize) for slot in slots]
        self._open_from = [*accumulate(reversed(starts), min, initial=path.stat().st_size)][::-1]
        self._descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))

    def write(self, name: str, blocks: Iterable[memoryview]) -> None:
        """Takes the bytes of the next slot.

        Raises:
            ContainerError: Another tensor is due, or the bytes do not fill its shape.
        """
        due = self._slots[self._next].name if self._next < len(self._slots) else None
        if name != due:
            raise ContainerError(
                "a tensor came out of order", file=self._path, tensor=name, expected=repr(due)
            )
        slot = self._slots[self._next]
        self._next += 1
        room = _SegmentCutter(slot.segments)
        done = 0
        for block in blocks:
            for offset, piece in room.cut(memoryview(block).cast("B")):
                _write_all(self._descriptor, piece, offset)
            done += memoryview(block).nbytes
            if done > slot.nbytes:
                break
        if done != slot.nbytes:
            raise ContainerError(
                "the bytes do not fill the tensor's shape",
                file=self._path,
                tensor=name,
                expected=f"{slot.nbytes} bytes",
                found=f"{done} bytes" if done < slot.nbytes else "more",
            )

    @property
    def finished_bytes(self) -> int:
        """How many of the file's first bytes will stay as they are: those before every slot to come."""
        return self._open_from[self._next]

    def close(self) -> None:
        """Flushes the file to disk and closes it.

        Raises:
            ContainerError: Tensors are missing; the file is closed but of no use.
        """
        try:
            if self._next < len(self._slots):
                raise ContainerError(
                    "the file was closed before all tensors came",
                    file=self._path,
                    tensor=self._slots[self._next].name,
                )
            if self._descriptor >= 0:
                os.fsync(self._descriptor)
        finally:
            self.release()

    def release(self) -> None:
        """Closes the descriptor, whatever state the file is in."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class _SegmentCutter:
    """Cuts a stream of bytes at the borders of segments."""

    def __init__(self, segments: Sequence[tuple[int, int]]) -> None:
        self._rest = [segment for segment in reversed(segments) if segment[1]]

    def cut(self, view: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Where the pieces of ``view`` go; bytes beyond the last segment go nowhere."""
        while len(view) and self._rest:
            offset, length = self._rest.pop()
            piece, view = view[:length], view[length:]
            if len(piece) < length:
                self._rest.append((offset + len(piece), length - len(piece)))
            yield offset, piece


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    # One call writes at most 2 GiB on Linux.
    while len(view):
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done


def create_file(path: Path, pieces: Iterable[tuple[int, bytes]], size: int) -> None:
    """Makes a file of ``size`` bytes that holds ``pieces`` at their offsets, and nothing else yet."""
    with open(path, "wb", buffering=0) as file:
        file.truncate(size)
        for offset, data in pieces:
            _write_all(file.fileno(), memoryview(data), offset)


class SlotWriter:
    """What the writers over a laid-out file have in common; their ``__init__`` lays it out as ``_file``."""

    _file: SlotFile

    def write(self, name: str, blocks: Iterable[memoryview]) -> None:
        """Takes the bytes of the next header that is no alias, in C order."""
        self._file.write(name, blocks)

    @property
    def finished_bytes(self) -> int:
        """How many of the file's first bytes will stay as they are."""
        return self._file.finished_bytes

    def close(self) -> None:
        """Finishes the file and flushes it to disk."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.release()
