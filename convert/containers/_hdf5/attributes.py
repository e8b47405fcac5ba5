"""Reads string attributes of HDF5 files without libhdf5.

One flipped bit in a global heap, which holds variable-length strings, makes libhdf5 (1.14 and 2.0 were tried) loop
forever or allocate 4 GB before it reaches the end of the file. This module parses object headers and heaps itself
and checks every length against the file's size. It can go when libhdf5 checks global heaps.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Self

from h5py import h5f

from equipoise.convert.core.errors import ContainerError

MAX_TEXT_BYTES = 1 << 16
"""Longest string; Keras stores none beyond 64,512 bytes."""

_CONTINUATION, _ATTRIBUTE, _ATTRIBUTE_INFO = 0x10, 0x0C, 0x15
_FIXED_TEXT, _VARIABLE = 3, 9
_VARIABLE_TEXT = 1
_SHARED = 0x02
_UNDEFINED = 2**64 - 1


@dataclass(frozen=True)
class _HeaderMessage:
    kind: int
    flags: int
    data: bytes


class TextAttributes:
    """The string attributes of a file's objects; a context manager that keeps the file open.

    Args:
        path: The file.
        file: The same file opened by HDF5, for the base address and the width of addresses.
    """

    def __init__(self, path: Path, file: h5f.FileID) -> None:
        plan = file.get_create_plist()
        if plan.get_sizes() != (8, 8):
            raise ContainerError(
                "addresses are not 64 bits wide", file=path, found=plan.get_sizes()
            )
        self._path = path
        self._base = int(plan.get_userblock())
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        self._found: tuple[int, dict[str, bytes]] = (-1, {})
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._size = os.fstat(self._descriptor).st_size
        # Overlapping structures could make the work grow with the square of the file's size.
        self._budget = 4 * self._size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._descriptor)

    def read_texts(self, address: int, name: str) -> list[str] | None:
        """Returns the attribute ``name`` of the object at ``address`` as strings; None if it is missing.

        Raises:
            ContainerError: It is not a string or list of strings, or the file is corrupt.
        """
        if self._found[0] != address:
            self._found = (address, dict(self._attributes(address)))
        message = self._found[1].get(name)
        try:
            return None if message is None else self._decode_attribute(message, name)
        except (struct.error, UnicodeDecodeError) as error:
            raise self._error(f"the attribute {name!r} is corrupt", str(error)) from error

    def _error(self, problem: str, found: object = None) -> ContainerError:
        hint = "the file is corrupt or malicious; download it again"
        return ContainerError(problem, file=self._path, found=found, hint=hint)

    def _read(self, address: int, count: int) -> bytes:
        offset = self._base + address
        self._budget -= count
        if self._budget < 0 or offset + count > self._size:
            raise self._error("a structure reaches beyond the file", f"{count} bytes at {offset}")
        data = os.pread(self._descriptor, count, offset)
        if len(data) != count:
            raise self._error("the file ended while it was read")
        return data

    def _attributes(self, address: int) -> Iterator[tuple[str, bytes]]:
        names: set[str] = set()
        for message in self._messages(address):
            if message.kind == _ATTRIBUTE_INFO and _has_dense_storage(message.data):
                raise self._error("the attributes are in dense storage, which Keras never uses")
            if message.kind != _ATTRIBUTE:
                continue
            name = self._attribute_name(message)
            if name in names:
                raise self._error("an attribute is duplicated", ascii(name))
            names.add(name)
            yield name, message.data

    def _attribute_name(self, message: _HeaderMessage) -> str:
        data = message.data
        try:
            version, flags, size = struct.unpack_from("<BBH", data)
            start = 9 if version == 3 else 8
            name = data[start : start + size].split(b"\0")[0].decode("utf-8")
        except (struct.error, UnicodeDecodeError) as error:
            raise self._error("an attribute is corrupt", str(error)) from error
        if version not in (1, 2, 3) or message.flags & _SHARED or (version > 1 and flags):
            raise self._error("an attribute has a form that Keras never writes", ascii(name))
        return name

    def _messages(self, address: int) -> Iterator[_HeaderMessage]:
        """Yields the messages of an object's header, including continuation blocks."""
        head = self._read(address, 16)
        try:
            second = head[:4] == b"OHDR"
            if second:
                flags, start, size = self._read_version_2_prefix(address, head)
            else:
                version, size = head[0], struct.unpack_from("<I", head, 8)[0]
                flags, start = 0, address + 16
                if version != 1:
                    raise self._error("an object's header has an unknown version", version)
            blocks = [(start, size)]
            for at, length in blocks:
                for message in self._parse_block(self._read(at, length), flags, second=second):
                    if message.kind == _CONTINUATION:
                        continuation, room = struct.unpack_from("<QQ", message.data)
                        # A block of version 2 begins with a signature and ends with a checksum.
                        blocks.append(
                            (continuation + 4, room - 8) if second else (continuation, room)
                        )
                    else:
                        yield message
        except (struct.error, ValueError, OverflowError) as error:
            raise self._error("an object's header is corrupt", str(error)) from error

    def _read_version_2_prefix(self, address: int, head: bytes) -> tuple[int, int, int]:
        """Returns flags, start and size of the first block of a version 2 header."""
        flags = head[5]
        at = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        return flags, at + width, int.from_bytes(self._read(at, width), "little")

    def _parse_block(self, data: bytes, flags: int, *, second: bool) -> Iterator[_HeaderMessage]:
        at, head = 0, (6 if flags & 0x04 else 4) if second else 8
        while at + head <= len(data):
            if second:
                kind, size, marks = struct.unpack_from("<BHB", data, at)
            else:
                kind, size, marks = struct.unpack_from("<HHB", data, at)
            at += head
            if at + size > len(data):
                raise self._error("a message reaches beyond its object's header")
            yield _HeaderMessage(kind, marks, data[at : at + size])
            at += size

    def _decode_attribute(self, data: bytes, name: str) -> list[str]:
        version, _, name_size, type_size, space_size = struct.unpack_from("<BBHHH", data)

        def padded(size: int) -> int:
            return -(-size // 8) * 8 if version == 1 else size

        type_at = (9 if version == 3 else 8) + padded(name_size)
        space_at = type_at + padded(type_size)
        values = memoryview(data)[space_at + padded(space_size) :]
        count, axes = _parse_dataspace(data[space_at : space_at + space_size])
        class_, bits, size = struct.unpack_from("<B3sI", data, type_at)
        class_ &= 0x0F
        # Keras stores an empty list with a number type, as it has no strings to take the type from.
        if count == 0 and axes == 1:
            return []
        is_list = axes is not None and axes <= 1 and count * size <= len(values) and size > 0
        if is_list and class_ == _FIXED_TEXT:
            cells = [bytes(values[at * size : at * size + size]) for at in range(count)]
            return [cell.split(b"\0")[0].decode("utf-8") for cell in cells]
        if is_list and class_ == _VARIABLE and bits[0] & 0x0F == _VARIABLE_TEXT and size == 16:
            records = struct.iter_unpack("<IQI", values[: count * 16])
            return [self._read_variable_text(*record) for record in records]
        raise self._error(
            f"the attribute {name!r} is not a list of strings", f"class {class_}, {axes} axes"
        )

    def _read_variable_text(self, length: int, heap: int, index: int) -> str:
        if length == 0 or heap in (0, _UNDEFINED):
            return ""
        if heap not in self._heaps:
            self._heaps[heap] = dict(self._read_heap(heap))
        at, room = self._heaps[heap].get(index, (0, -1))
        if length > min(room, MAX_TEXT_BYTES):
            raise self._error("a string is not in its heap", f"{length} bytes as object {index}")
        return self._read(at, length).split(b"\0")[0].decode("utf-8")

    def _read_heap(self, address: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """Yields the objects of a global heap: index, and (offset, size)."""
        signature, version, size = struct.unpack("<4sB3xQ", self._read(address, 16))
        if signature != b"GCOL" or version != 1 or size < 16:
            raise self._error("a global heap is corrupt")
        data = self._read(address + 16, size - 16)
        at = 0
        while at + 16 <= len(data):
            index, length = struct.unpack_from("<H6xQ", data, at)
            at += 16
            if index == 0:
                return
            if at + length > len(data):
                raise self._error("an object reaches beyond its global heap")
            yield index, (address + 16 + at, length)
            at += -(-length // 8) * 8


def _has_dense_storage(data: bytes) -> bool:
    """Whether an attribute info message refers to a fractal heap."""
    at = 4 if len(data) > 1 and data[1] & 1 else 2
    return data[at : at + 8] not in (b"", b"\xff" * 8)


def _parse_dataspace(data: bytes) -> tuple[int, int | None]:
    """Returns the numbers of elements and axes; None axes for a null dataspace."""
    version, axes, _, kind = struct.unpack_from("<BBBB", data)
    if version == 2 and kind == 2:
        return 1, None
    sizes = struct.unpack_from(f"<{axes}Q", data, 4 if version == 2 else 8)
    return prod(sizes), axes
