"""Scans a msgpack file for its tree and the positions of its arrays, without reading the arrays.

``msgpack.Unpacker`` would load every byte. This scanner reads only headers, checks every length against the end of
the file before it allocates anything, and skips the payloads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from equipoise.convert.containers._shared.checks import byte_size, check_shape
from equipoise.convert.core.arrays import DType
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import dtype_named

MAX_DEPTH = 100
MAX_KEY_BYTES = 4096
"""Longest path of keys in bytes: paths repeat their prefixes, so that long ones would need much more memory than the file."""

MAX_PATH_BYTES = 32 << 20
"""Largest sum of all paths in bytes, or the size of the file if that is larger; 300,000 tensors take 20 MB."""
MAX_VALUES = 1_000_000
"""Largest number of values that are neither maps nor arrays; a tree of weights has hardly any."""

MAX_TEXT_BYTES = 1024
"""Longest string whose value is kept: the path of an array in another file."""

_WINDOW_BYTES = 1 << 16
_NDARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_CONSTANTS = {0xC0: "nothing (nil)", 0xC2: "a boolean", 0xC3: "a boolean"}
_FIXED_SIZES = {
    0xCA: 4,
    0xCB: 8,
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
}
_LENGTH_SIZES = {
    0xC4: 1,
    0xC5: 2,
    0xC6: 4,
    0xC7: 1,
    0xC8: 2,
    0xC9: 4,
    0xD9: 1,
    0xDA: 2,
    0xDB: 4,
    0xDC: 2,
    0xDD: 4,
    0xDE: 2,
    0xDF: 4,
}


@dataclass(frozen=True, slots=True)
class ArrayNode:
    """An array; ``scalar`` is true for NumPy scalars (extension 3)."""

    dtype: DType
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    scalar: bool


@dataclass(frozen=True, slots=True)
class OtherNode:
    """Any other value: a description, and the value of an integer, boolean, short string, or short list of integers."""

    kind: str
    value: int | bool | str | tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class MapNode:
    """A map."""

    entries: dict[str, MapNode | ArrayNode | OtherNode] = field(default_factory=dict)


Node = MapNode | ArrayNode | OtherNode


def scan_file(path: Path) -> MapNode:
    """Returns the tree of a file whose root is a map.

    Raises:
        ContainerError: The bytes are not one complete msgpack map, or exceed a limit.
    """
    with open(path, "rb", buffering=0) as file:
        scanner = _Scanner(path, file)
        root = scanner.node("", MAX_DEPTH)
        if not isinstance(root, MapNode):
            raise scanner.error("the file is not a map", found=_describe(root))
        if scanner.at != scanner.end:
            rest = scanner.end - scanner.at
            raise scanner.error(f"{rest} bytes follow the end of the data")
    return root


def _describe(node: Node) -> str:
    return node.kind if isinstance(node, OtherNode) else "an array"


class _Scanner:
    """A cursor over the file with a small window in memory."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.at = 0
        self._file = file
        self.end = os.fstat(file.fileno()).st_size
        self._start = 0
        self._window = b""
        self._paths_left = max(MAX_PATH_BYTES, self.end)
        self._values_left = MAX_VALUES

    def error(self, problem: str, **more: object) -> ContainerError:
        found = more.get("found", f"at byte {self.at} of {self.end}")
        return ContainerError(
            problem,
            file=self.path,
            tensor=str(more["tensor"]) if more.get("tensor") else None,
            found=found,
            hint="the file is truncated, corrupt or not a Flax msgpack file; download it again",
        )

    def take(self, count: int) -> bytes:
        """Reads the next ``count`` bytes; callers limit ``count``."""
        self._check(count)
        begin = self.at - self._start
        if not 0 <= begin <= begin + count <= len(self._window):
            self._window = os.pread(self._file.fileno(), max(count, _WINDOW_BYTES), self.at)
            self._start, begin = self.at, 0
        self.at += count
        piece = self._window[begin : begin + count]
        if len(piece) != count:
            raise self.error("the file ended while it was read")
        return piece

    def skip(self, count: int) -> None:
        self._check(count)
        self.at += count

    def _check(self, count: int) -> None:
        if count > self.end - self.at:
            raise self.error("a value reaches beyond the end of the file")

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def node(self, path: str, depth: int) -> Node:
        """Reads the value at the cursor."""
        tag = self.number(1)
        if 0x80 <= tag <= 0x8F or tag in (0xDE, 0xDF):
            return self._map(self._count(tag, 0x80), path, depth)
        if 0x90 <= tag <= 0x9F or tag in (0xDC, 0xDD):
            return self._list(self._count(tag, 0x90), path, depth)
        if 0xC7 <= tag <= 0xC9 or 0xD4 <= tag <= 0xD8:
            return self._extension(tag, path)
        self._values_left -= 1
        if self._values_left < 0:
            raise self.error(f"more than {MAX_VALUES} values are no arrays", tensor=path)
        if tag <= 0x7F or tag >= 0xE0:
            return OtherNode("an integer", tag if tag <= 0x7F else tag - 256)
        if tag in _CONSTANTS:
            return OtherNode(_CONSTANTS[tag], None if tag == 0xC0 else tag == 0xC3)
        if tag in _FIXED_SIZES:
            return self._number(tag)
        if 0xA0 <= tag <= 0xBF or tag in (0xD9, 0xDA, 0xDB):
            return self._text(self._count(tag, 0xA0))
        if 0xC4 <= tag <= 0xC6:
            self.skip(self._count(tag, 0))
            return OtherNode("bytes")
        raise self.error("a byte that msgpack never uses", tensor=path)

    def _text(self, length: int) -> OtherNode:
        if length > MAX_TEXT_BYTES:
            self.skip(length)
            return OtherNode("a string")
        return OtherNode("a string", self.take(length).decode("utf-8", "replace"))

    def _number(self, tag: int) -> OtherNode:
        data = self.take(_FIXED_SIZES[tag])
        if tag in (0xCA, 0xCB):
            return OtherNode("a float")
        return OtherNode("an integer", int.from_bytes(data, "big", signed=tag >= 0xD0))

    def _count(self, tag: int, base: int) -> int:
        """Returns the length in a tag or in the bytes after it."""
        return self.number(_LENGTH_SIZES[tag]) if tag in _LENGTH_SIZES else tag - base

    def _map(self, count: int, path: str, depth: int) -> MapNode:
        self._enter(2 * count, path, depth)
        entries: dict[str, Node] = {}
        for _ in range(count):
            key = self._key(path)
            name = f"{path}/{key}" if path else key
            self._paths_left -= len(name)
            if self._paths_left < 0:
                raise self.error("the paths of keys take more memory than the file")
            if key in entries:
                raise self.error("a key is duplicated in a map", tensor=name)
            entries[key] = self.node(name, depth - 1)
        return MapNode(entries)

    def _list(self, count: int, path: str, depth: int) -> OtherNode:
        self._enter(count, path, depth)
        integers: list[int] = []
        for _ in range(count):
            item = self.node(path, depth - 1)
            value = item.value if isinstance(item, OtherNode) else None
            if type(value) is int and len(integers) < MAX_DEPTH:
                integers.append(value)
        return OtherNode("a list", tuple(integers) if len(integers) == count else None)

    def _enter(self, least: int, path: str, depth: int) -> None:
        if depth == 0:
            raise self.error(f"the data are nested more than {MAX_DEPTH} levels deep", tensor=path)
        # Every value takes at least one byte, so that a larger count is wrong.
        self._check(least)

    def _key(self, path: str) -> str:
        tag = self.number(1)
        if not (0xA0 <= tag <= 0xBF or tag in (0xD9, 0xDA, 0xDB)):
            raise self.error("a key is not a string", tensor=path, found=f"type byte {tag:#04x}")
        length = self._count(tag, 0xA0)
        if length + len(path) > MAX_KEY_BYTES:
            raise self.error(f"a path of keys is longer than {MAX_KEY_BYTES} bytes", tensor=path)
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.error("a key is not valid UTF-8", tensor=path) from error

    def _extension(self, tag: int, path: str) -> ArrayNode | OtherNode:
        length = 1 << (tag - 0xD4) if tag >= 0xD4 else self._count(tag, 0)
        code = self.number(1)
        self._check(length)
        end = self.at + length
        if code in (_NDARRAY, _SCALAR):
            leaf = self._array(path, end, scalar=code == _SCALAR)
            if self.at != end:
                raise self.error("an array does not fill its extension", tensor=path)
            return leaf
        self.skip(length)
        if code == _COMPLEX:
            return OtherNode("a complex number")
        return OtherNode(f"an unknown extension of type {code}")

    def _array(self, path: str, end: int, *, scalar: bool) -> ArrayNode:
        """Reads the content of an extension: ``(shape, dtype name, bytes)``."""
        if self._items(path) != 3:
            raise self.error("an array is not a triple of shape, dtype and bytes", tensor=path)
        axes = self._items(path)
        self._check(axes)
        if axes > end - self.at:
            raise self.error("an array's shape reaches beyond it", tensor=path)
        shape: list[object] = []
        for _ in range(min(axes, MAX_DEPTH)):
            item = self.node(path, 1)
            shape.append(item.value if isinstance(item, OtherNode) else None)
        name = self.take(self._raw(path, limit=64)).decode("latin-1")
        dtype = dtype_named(name, file=self.path, tensor=path)
        sizes = check_shape(shape, dtype, file=self.path, tensor=path)
        length = self._raw(path, limit=self.end)
        if length != byte_size(sizes, dtype) or (scalar and sizes):
            raise self.error(
                "an array's bytes do not match its shape",
                tensor=path,
                found=f"{length} bytes for {dtype} {list(sizes)}",
            )
        leaf = ArrayNode(dtype, sizes, self.at, length, scalar)
        self.skip(length)
        return leaf

    def _items(self, path: str) -> int:
        tag = self.number(1)
        if not (0x90 <= tag <= 0x9F or tag in (0xDC, 0xDD)):
            raise self.error("an array is not a list of three parts", tensor=path)
        return self._count(tag, 0x90)

    def _raw(self, path: str, *, limit: int) -> int:
        """Returns the length of the string or bytes at the cursor; old writers encode both as strings."""
        tag = self.number(1)
        if not (0xA0 <= tag <= 0xBF or tag in (0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB)):
            raise self.error("an array's dtype or bytes are missing", tensor=path)
        length = self._count(tag, 0xA0)
        if length > limit:
            raise self.error("an array's dtype is not a name", tensor=path)
        return length
