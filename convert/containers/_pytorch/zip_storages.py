"""Finds pickles and storages of tensors in PyTorch's zip archives."""

from __future__ import annotations

from equipoise.convert.containers._pytorch.allowed_globals import Storage, element_bytes
from equipoise.convert.containers._pytorch.pickle_machine import MAX_PICKLE_BYTES
from equipoise.convert.containers._pytorch.tensor_tree import StorageBytes
from equipoise.convert.containers._pytorch.zip_reader import InflatedRecord, ZipArchive, ZipEntry
from equipoise.convert.core.errors import ContainerError

_MAX_SMALL_RECORD_BYTES = 64
_MAX_PICKLE_RATIO = 50
_MIN_DEFLATED_PICKLE_BYTES = 1 << 20
"""A compressed pickle may grow to this size, or fifty times its compressed size; one of a large model grows by 20."""


def read_pickle(archive: ZipArchive, entry: ZipEntry) -> bytes:
    """Reads a record that is a pickle.

    Raises:
        ContainerError: It is corrupt, or too large.
    """
    limit = max(_MIN_DEFLATED_PICKLE_BYTES, _MAX_PICKLE_RATIO * entry.stored)
    return archive.read(entry, min(MAX_PICKLE_BYTES, limit))


class ZipStorages:
    """The storages of an archive.

    Args:
        archive: The archive.
        prefix: What the names of its records begin with.
        folder: The folder of the storages below it.

    Raises:
        ContainerError: The byte order is unknown.
    """

    def __init__(self, archive: ZipArchive, prefix: str, folder: str = "data") -> None:
        self._archive = archive
        self._folder = f"{prefix}{folder}/"
        self._inflated: dict[str, InflatedRecord] = {}
        order = archive.entries.get(f"{prefix}byteorder")
        text = b"little" if order is None else archive.read(order, _MAX_SMALL_RECORD_BYTES)
        if text not in (b"little", b"big"):
            raise ContainerError("unknown byte order", file=archive.path, found=text[:20])
        self.big_endian = text == b"big"

    def oddity(self) -> str:
        """Returns a remark on the storages, or an empty string."""
        return (
            "storages are compressed, so each is decompressed as a whole" if self._inflated else ""
        )

    def find_storage(self, storage: Storage) -> StorageBytes:
        """Returns the bytes of a storage."""
        name = f"{self._folder}{storage.key}"
        entry = self._archive.entries.get(name)
        if entry is None:
            hint = "a meta tensor has no bytes" if storage.location == "meta" else None
            raise ContainerError(
                f"the record {name!r} is missing", file=self._archive.path, hint=hint
            )
        width = element_bytes(storage.dtype)
        if entry.size != storage.numel * width:
            raise ContainerError(
                f"the record {name!r} does not have the size that its tensors need",
                file=self._archive.path,
                expected=f"{storage.numel * width} bytes",
                found=f"{entry.size} bytes",
            )
        if not entry.deflated:
            extent = self._archive.extent(entry)
            return StorageBytes(entry.size, extent, big_endian=self.big_endian)
        inflated = self._inflated.setdefault(name, InflatedRecord(self._archive, entry))
        inflated.views += 1
        return StorageBytes(entry.size, read=inflated.read, big_endian=self.big_endian)
