"""Tensors within flat vectors: a parameter of DeepSpeed ZeRO lies in one or several of them, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from equipoise.convert.core.tensor import Extent, TensorRef, array_blocks


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements of a flat vector, from ``start`` to before ``stop``."""

    vector: TensorRef
    start: int
    stop: int

    def blocks(self) -> Iterator[memoryview]:
        """Yields the bytes of the elements."""
        width = self.vector.dtype.itemsize
        extent = self.vector.extent
        if extent is not None:
            at = extent.offset + self.start * width
            yield from Extent(extent.path, at, (self.stop - self.start) * width).blocks()
        else:
            yield from array_blocks(self.vector.read()[self.start : self.stop])


def cut_pieces(vectors: Sequence[TensorRef], start: int, stop: int) -> list[Piece]:
    """Returns the pieces that hold the elements from ``start`` to before ``stop`` of vectors put end to end."""
    pieces = []
    begin = 0
    for vector in vectors:
        first, last = max(start - begin, 0), min(stop - begin, vector.size)
        if first < last:
            pieces.append(Piece(vector, first, last))
        begin += vector.size
    return pieces


def take_elements(pieces: Sequence[Piece], count: int) -> list[Piece]:
    """Returns the first ``count`` elements of pieces; what follows is padding."""
    taken = []
    for piece in pieces:
        size = min(count, piece.stop - piece.start)
        if size:
            taken.append(Piece(piece.vector, piece.start, piece.start + size))
        count -= size
    return taken


def stream_pieces(pieces: Sequence[Piece]) -> Iterator[memoryview]:
    """Yields the bytes of pieces, one after the other."""
    for piece in pieces:
        yield from piece.blocks()
