"""Reads the data files of a tensor bundle, whose tensors are stored whole or in slices."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from equipoise.convert.containers._bundle.entries import (
    BundleEntry,
    BundleHeader,
    Slice,
    resolve_slices,
    slice_key,
)
from equipoise.convert.core.arrays import Array, DType
from equipoise.convert.core.errors import CheckpointError, ContainerError
from equipoise.convert.core.tensor import Extent, StoredChecksum, TensorRef, dtype_named
from equipoise.convert.files.containment import check_readable

_MAX_SLICES = 1024


class DataFiles:
    """The data files of a checkpoint, checked against its index.

    Args:
        index: The index, for messages.
        prefix: Prefix of the data files' names.
        header: The index's header.
        entries: The tensors by key.
        slices: The slices by encoded key.

    Raises:
        CheckpointError: A data file is missing.
        ContainerError: An entry reaches beyond its file, or two overlap.
    """

    def __init__(
        self,
        index: Path,
        prefix: str,
        header: BundleHeader,
        entries: Mapping[str, BundleEntry],
        slices: Mapping[bytes, BundleEntry],
    ) -> None:
        self._index = index
        self._header = header
        self._slices = slices
        whole = [entry for entry in entries.values() if not entry.slices]
        stored = [*whole, *slices.values()]
        count = header.shards
        self._paths = {
            number: index.with_name(f"{prefix}.data-{number:05d}-of-{count:05d}")
            for number in sorted({entry.shard for entry in stored})
        }
        self._check(stored)
        wanted = {
            slice_key(key.encode(), part) for key, entry in entries.items() for part in entry.slices
        }
        if not slices.keys() <= wanted:
            raise ContainerError("a slice does not belong to any tensor", file=index)

    def _check(self, stored: Iterable[BundleEntry]) -> None:
        for number, path in self._paths.items():
            if number >= self._header.shards:
                raise ContainerError(
                    "the index names a data file beyond its number of data files",
                    file=self._index,
                    expected=f"one of {self._header.shards}",
                    found=f"number {number}",
                )
            if not os.path.lexists(path):
                raise CheckpointError(
                    "a data file of the checkpoint is missing",
                    file=path,
                    hint="download it and put it next to the index",
                )
            check_readable(path, self._index.parent)
        sizes = {number: path.stat().st_size for number, path in self._paths.items()}
        ends = dict.fromkeys(self._paths, 0)
        for entry in sorted(stored, key=lambda entry: entry.offset):
            if entry.size == 0:
                continue
            if entry.offset < ends[entry.shard]:
                raise ContainerError("tensors overlap", file=self._paths[entry.shard])
            ends[entry.shard] = entry.offset + entry.size
            if ends[entry.shard] > sizes[entry.shard]:
                raise ContainerError(
                    "the data file ends before its tensors do",
                    file=self._paths[entry.shard],
                    expected=f"at least {ends[entry.shard]} bytes",
                    found=f"{sizes[entry.shard]} bytes",
                    hint="the file is truncated; download it again",
                )

    def extent(self, entry: BundleEntry, name: str) -> Extent:
        """Returns the byte range of an entry, with the checksum that the index has for it."""
        crc = None if entry.crc is None else StoredChecksum(name, entry.crc)
        return Extent(self._paths[entry.shard], entry.offset, entry.size, crc)

    def read_bytes(self, key: str, entry: BundleEntry) -> bytes:
        """Reads the bytes of an entry that is not sliced."""
        if entry.slices:
            raise ContainerError("it is sliced", file=self._index, tensor=key)
        # The checksum of a string is not that of its bytes.
        return self.extent(replace(entry, crc=None), key).read().tobytes()

    def tensor_ref(self, name: str, key: str, entry: BundleEntry) -> TensorRef:
        """Returns the reference for an entry.

        Raises:
            UnsupportedDtypeError: Only TensorFlow has its dtype.
            ContainerError: Its bytes do not match its shape.
        """
        dtype = dtype_named(entry.dtype, file=self._index, tensor=name)
        if entry.slices:
            return self._sliced_tensor_ref(name, key, entry, dtype)
        self._check_size(name, entry, entry.shape, dtype)
        extent = self.extent(entry, name)
        if not self._needs_byteswap(dtype):
            return TensorRef(name, dtype, entry.shape, extent.path, extent=extent)
        return TensorRef(
            name, dtype, entry.shape, extent.path, load=lambda: self._read_entry(name, entry, dtype)
        )

    def _needs_byteswap(self, dtype: DType) -> bool:
        return self._header.big_endian and dtype.itemsize > 1

    def _read_entry(self, name: str, entry: BundleEntry, dtype: DType) -> Array:
        """Reads the elements of an entry as a flat little-endian array."""
        raw = self.extent(entry, name).read()
        if self._needs_byteswap(dtype):
            unit = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
            raw = np.ascontiguousarray(raw.reshape(-1, unit)[:, ::-1]).reshape(-1)
        return raw.view(dtype)

    def _check_size(
        self, name: str, entry: BundleEntry, shape: tuple[int, ...], dtype: DType
    ) -> None:
        expected = math.prod(shape) * dtype.itemsize
        if entry.size != expected:
            raise ContainerError(
                "the bytes do not match the shape",
                file=self._index,
                tensor=name,
                expected=f"{expected} bytes",
                found=f"{entry.size} bytes",
            )

    def _sliced_tensor_ref(
        self, name: str, key: str, entry: BundleEntry, dtype: DType
    ) -> TensorRef:
        """Returns the reference for a sliced tensor; checks that the slices cover it exactly once."""
        parts = resolve_slices(entry.slices, entry.shape)
        pieces: list[tuple[Slice, BundleEntry]] = []
        for coded, part in zip(entry.slices, parts, strict=True):
            piece = self._slices.get(slice_key(key.encode(), coded))
            if piece is None:
                raise ContainerError(f"the slice {part} is missing", file=self._index, tensor=name)
            if piece.dtype != entry.dtype or piece.slices:
                raise ContainerError("a slice has another dtype", file=self._index, tensor=name)
            self._check_size(name, piece, tuple(length for _, length in part), dtype)
            pieces.append((part, piece))
        self._check_slices_cover(name, parts, entry.shape)

        def load() -> Array:
            out = np.empty(entry.shape, dtype)
            for part, piece in pieces:
                window = tuple(slice(start, start + length) for start, length in part)
                out[window] = self._read_entry(name, piece, dtype).reshape(
                    [length for _, length in part]
                )
            return out

        return TensorRef(name, dtype, entry.shape, self._index, load=load)

    def _check_slices_cover(self, name: str, parts: list[Slice], shape: tuple[int, ...]) -> None:
        filled = sum(math.prod(length for _, length in part) for part in parts)
        whole = len(parts) <= _MAX_SLICES and filled == math.prod(shape)
        if not whole or (filled and _any_overlap(parts)):
            raise ContainerError(
                "the slices do not cover the tensor exactly once",
                file=self._index,
                tensor=name,
                expected=f"at most {_MAX_SLICES} slices, {math.prod(shape)} elements together",
                found=f"{len(parts)} slices, {filled} elements",
            )


def _any_overlap(parts: list[Slice]) -> bool:
    """Whether any two slices overlap."""
    boxes = np.array(parts, dtype=np.int64).reshape(len(parts), -1, 2)
    start, end = boxes[..., 0], boxes[..., 0] + boxes[..., 1]
    meet = (start[:, None] < end[None]) & (start[None] < end[:, None])
    return bool(np.triu(meet.all(axis=-1), k=1).any())
