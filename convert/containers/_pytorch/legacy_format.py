"""Reads the format of ``torch.save`` before torch 1.6: five pickles, then the storages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

from equipoise.convert.containers._pytorch.allowed_globals import (
    ALLOWED_GLOBALS,
    Storage,
    element_bytes,
    parse_storage,
)
from equipoise.convert.containers._pytorch.tensor_tree import StorageBytes
from equipoise.convert.containers._pytorch.unpickle import load_pickle
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import Extent

MAGIC = 0x1950A86A20F9469CFC6C
MAGIC_BYTES = MAGIC.to_bytes(10, "little")
PROTOCOL = 1001


@dataclass(frozen=True)
class LegacyFile:
    """A parsed legacy file.

    Attributes:
        top: The saved object.
        pickled_bytes: Length of the pickles.
        find_storage: Returns the bytes of a storage.
        trailing_bytes: Number of bytes after the last storage.
    """

    top: object
    pickled_bytes: int
    find_storage: Callable[[Storage], StorageBytes]
    trailing_bytes: int


def read_legacy(path: Path) -> LegacyFile:
    """Reads the pickles and finds the storages.

    Raises:
        ContainerError: The file is corrupt or of another kind.
    """
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        sizes: dict[str, int] = {}

        def persistent(identifier: object) -> Storage:
            storage = parse_storage(identifier)
            width = element_bytes(storage.dtype)
            if sizes.setdefault(storage.key, width) != width:
                raise ContainerError(f"the storage {storage.key!r} has two types", file=path)
            return storage

        values: list[object] = []
        position = 0
        for _ in range(5):
            value, position = load_pickle(data, position, ALLOWED_GLOBALS, persistent)
            values.append(value)
        magic, protocol, _, top, keys = values
        if magic != MAGIC or protocol != PROTOCOL:
            raise ContainerError("not a PyTorch checkpoint of protocol 1001", file=path)
        extents, end = _storage_extents(path, data, position, keys, sizes)
        spare = len(data) - end
    return LegacyFile(top, position, lambda storage: _storage_bytes(path, extents, storage), spare)


def _storage_extents(
    path: Path, data: mmap, position: int, keys: object, sizes: dict[str, int]
) -> tuple[dict[str, Extent], int]:
    """Returns the byte range of each storage, and the end of the last."""
    if not isinstance(keys, list):
        raise ContainerError("the keys of the storages are not a list", file=path)
    extents: dict[str, Extent] = {}
    for key in keys:
        if not isinstance(key, str) or key not in sizes or key in extents:
            raise ContainerError(
                "a storage is unknown or duplicated", file=path, found=str(key)[:40]
            )
        count = int.from_bytes(data[position : position + 8], "little", signed=True)
        start = position + 8
        position = start + count * sizes[key]
        if count < 0 or position > len(data):
            raise ContainerError(
                f"the storage {key!r} does not fit the file",
                file=path,
                expected=f"{count} elements at offset {start}",
                found=f"{max(0, len(data) - start)} bytes",
                hint="the file is truncated; download it again",
            )
        extents[key] = Extent(path, start, position - start)
    return extents, position


def _storage_bytes(path: Path, extents: dict[str, Extent], storage: Storage) -> StorageBytes:
    """Returns the bytes of a storage, or of the part in a storage view; always little-endian."""
    extent = extents.get(storage.key)
    width = element_bytes(storage.dtype)
    if extent is None:
        raise ContainerError(f"the storage {storage.key!r} is missing", file=path)
    if extent.nbytes != storage.numel * width:
        raise ContainerError(
            f"the storage {storage.key!r} does not have the size that its tensors need",
            file=path,
            expected=f"{storage.numel * width} bytes",
            found=f"{extent.nbytes} bytes",
        )
    if storage.view is None:
        return StorageBytes(extent.nbytes, extent)
    _, first, count = storage.view
    if (first + count) * width > extent.nbytes:
        raise ContainerError(f"a view reaches beyond the storage {storage.key!r}", file=path)
    part = Extent(path, extent.offset + first * width, count * width)
    return StorageBytes(part.nbytes, part)
