"""Computes the layout of a Flax msgpack file from the headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from equipoise.convert.containers._msgpack.scanner import MAX_DEPTH, MAX_KEY_BYTES
from equipoise.convert.containers._shared.checks import byte_size
from equipoise.convert.containers._shared.slot_file import Slot
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import TensorHeader

CHUNKED_KEY, SHAPE_KEY, CHUNKS_KEY = "__msgpack_chunked_array__", "shape", "chunks"
_Tree = dict[str, "TensorHeader | _Tree"]


def compute_layout(
    path: Path, headers: Sequence[TensorHeader], chunk_bytes: int
) -> tuple[list[tuple[int, bytes]], list[Slot], int]:
    """Returns the structure as (offset, bytes), the slots of the headers in order, and the file's size."""
    layout = _Layout(chunk_bytes)
    layout.tree(_build_tree(path, headers))
    layout.flush()
    return layout.pieces, [layout.slots[header.name] for header in headers], layout.at


def _build_tree(path: Path, headers: Sequence[TensorHeader]) -> _Tree:
    root: _Tree = {}
    for header in headers:
        *above, last = keys = header.name.split("/")
        branch = root
        for key in above:
            below = branch.setdefault(key, {})
            if not isinstance(below, dict):
                raise _name_error(
                    path, header, f"{below.name!r} is a tensor and cannot contain others"
                )
            branch = below
        if not all(keys) or CHUNKED_KEY in keys or last in branch:
            raise _name_error(path, header, "its name is not a path in nested maps")
        if len(keys) >= MAX_DEPTH - 1 or len(header.name.encode()) > MAX_KEY_BYTES:
            raise _name_error(path, header, "its name is too long")
        branch[last] = header
    return root


def _name_error(path: Path, header: TensorHeader, problem: str) -> ContainerError:
    return ContainerError(
        f"msgpack cannot hold this tensor: {problem}", file=path, tensor=header.name
    )


class _Layout:
    """Encodes the structure in memory and leaves gaps for the arrays' bytes."""

    def __init__(self, chunk_bytes: int) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        self.slots: dict[str, Slot] = {}
        self.at = 0
        self._chunk_bytes = chunk_bytes
        self._buffer = bytearray()

    def tree(self, branch: _Tree) -> None:
        self._buffer += _map_header(len(branch))
        for key, value in branch.items():
            self._buffer += _pack_text(key)
            if isinstance(value, dict):
                self.tree(value)
            elif value.nbytes > self._chunk_bytes:
                self._chunked(value)
            else:
                hole = self._array(value.dtype.name, value.shape, value.nbytes)
                self.slots[value.name] = Slot(value.name, (hole,))

    def flush(self) -> None:
        if self._buffer:
            self.pieces.append((self.at, bytes(self._buffer)))
            self.at += len(self._buffer)
            self._buffer.clear()

    def _array(self, name: str, shape: Sequence[int], nbytes: int) -> tuple[int, int]:
        inner = b"\x93" + _pack_integers(shape) + _pack_text(name) + _bin_header(nbytes)
        self._buffer += _extension_header(len(inner) + nbytes) + inner
        self.flush()
        hole = (self.at, nbytes)
        self.at += nbytes
        return hole

    def _chunked(self, header: TensorHeader) -> None:
        self._buffer += _map_header(3) + _pack_text(CHUNKED_KEY) + b"\xc3"
        self._buffer += _pack_text(SHAPE_KEY) + _map_header(len(header.shape))
        for index, size in enumerate(header.shape):
            self._buffer += _pack_text(str(index)) + _pack_integer(size)
        step = max(1, self._chunk_bytes // header.dtype.itemsize)
        counts = [min(step, rest) for rest in range(_element_count(header), 0, -step)]
        self._buffer += _pack_text(CHUNKS_KEY) + _map_header(len(counts))
        holes = []
        for index, count in enumerate(counts):
            self._buffer += _pack_text(str(index))
            nbytes = byte_size((count,), header.dtype)
            holes.append(self._array(header.dtype.name, (count,), nbytes))
        self.slots[header.name] = Slot(header.name, tuple(holes))


def _element_count(header: TensorHeader) -> int:
    return header.nbytes // header.dtype.itemsize


def _pack_sized(value: int, codes: Sequence[tuple[int, int]]) -> bytes:
    """Encodes a value with the first of the pairs (code, width) whose width can hold it."""
    code, width = next((code, width) for code, width in codes if value < 1 << 8 * width)
    return bytes([code]) + value.to_bytes(width, "big")


def _map_header(count: int) -> bytes:
    return bytes([0x80 + count]) if count < 16 else _pack_sized(count, ((0xDE, 2), (0xDF, 4)))


def _pack_integers(values: Sequence[int]) -> bytes:
    head = (
        bytes([0x90 + len(values)]) if len(values) < 16 else _pack_sized(len(values), ((0xDC, 2),))
    )
    return head + b"".join(_pack_integer(value) for value in values)


def _pack_integer(value: int) -> bytes:
    if value < 0x80:
        return bytes([value])
    return _pack_sized(value, ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)))


def _pack_text(value: str) -> bytes:
    data = value.encode("utf-8")
    short = len(data) < 32
    head = bytes([0xA0 + len(data)]) if short else _pack_sized(len(data), ((0xD9, 1), (0xDA, 2)))
    return head + data


def _bin_header(length: int) -> bytes:
    return _pack_sized(length, ((0xC4, 1), (0xC5, 2), (0xC6, 4)))


def _extension_header(length: int) -> bytes:
    """Encodes the head of an array's extension; small powers of two have their own tags."""
    fixed = {1 << power: 0xD4 + power for power in range(5)}.get(length)
    sizes = ((0xC7, 1), (0xC8, 2), (0xC9, 4))
    return (bytes([fixed]) if fixed is not None else _pack_sized(length, sizes)) + b"\x01"
