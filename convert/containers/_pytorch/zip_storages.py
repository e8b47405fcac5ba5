"""Finds pickles and storages of tensors in PyTorch's zip archives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from equipoise.convert.containers._pytorch.allowed_globals import (
    Storage,
    element_bytes,
    parse_storage,
)
from equipoise.convert.containers._pytorch.pickle_machine import MAX_PICKLE_BYTES
from equipoise.convert.containers._pytorch.tensor_tree import StorageBytes
from equipoise.convert.containers._pytorch.unpickle import load_pickle
from equipoise.convert.containers._shared.zip_reader import InflatedRecord, ZipArchive, ZipEntry
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


@dataclass(frozen=True)
class ArchiveContent:
    """What an archive of ``torch.save`` holds.

    Attributes:
        top: The unpickled object.
        storages: The storages of its tensors.
        pickled_bytes: Length of the pickle.
        entry: The record of the pickle.
    """

    top: object
    storages: ZipStorages
    pickled_bytes: int
    entry: ZipEntry


def load_archive(archive: ZipArchive, table: Mapping[str, object]) -> ArchiveContent:
    """Unpickles an archive of ``torch.save``.

    Args:
        archive: The archive.
        table: The globals that the pickle may name.

    Raises:
        UnsafePickleError: It names another one.
        ContainerError: It is corrupt, or not one of ``torch.save``.
    """
    pickles = [name for name in archive.entries if name.split("/", 1)[-1] == "data.pkl"]
    if len(pickles) != 1:
        raise ContainerError(
            "a zip archive, but not one of torch.save",
            file=archive.path,
            expected="one data.pkl",
            found=f"{len(pickles)}",
        )
    prefix = pickles[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in archive.entries:
        raise ContainerError(
            "a TorchScript program, not a checkpoint",
            file=archive.path,
            hint="load it with torch.jit.load and save its state_dict()",
        )
    entry = archive.entries[pickles[0]]
    pickled = read_pickle(archive, entry)
    storages = ZipStorages(archive, prefix)
    top, _ = load_pickle(pickled, 0, table, parse_storage)
    return ArchiveContent(top, storages, len(pickled), entry)
