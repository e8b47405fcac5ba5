"""Reads HDF5 datasets strictly: only hard links, only bytes stored in the file, only known types.

libhdf5 follows links into other files, maps external and virtual datasets, loads filter plug-ins and produces fill
values for unallocated data. Here objects are opened through hard links alone, and a dataset's bytes must all be stored
in the file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5f, h5g, h5l, h5o, h5s, h5t, h5z

from equipoise.convert.containers._hdf5.file_window import FileWindow
from equipoise.convert.containers._shared.checks import byte_size, check_shape
from equipoise.convert.core.arrays import Array, DType
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.convert.core.tensor import DTYPES, NUMPY_DTYPES, Extent

MAX_DEPTH = 100
OPAQUE_BFLOAT16 = np.dtype("V2")
"""How h5py, and therefore Keras, stores bfloat16: two opaque bytes without a tag."""

_DEFLATE_RATIO = 1100
"""More than deflate can achieve; a higher ratio means that the size is wrong."""
_FILTERS = frozenset({h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32})
_LIBRARY_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)
_SYSTEM_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO)
STORABLE_DTYPES = NUMPY_DTYPES
"""Dtypes that HDF5 can describe; bfloat16 is stored as opaque bytes."""


@contextmanager
def translate_read_errors(path: Path) -> Iterator[None]:
    """Converts exceptions of h5py for corrupt files into ``ContainerError``; wrap h5py calls only."""
    try:
        yield
    except _LIBRARY_ERRORS as error:
        raise ContainerError(
            "HDF5 cannot read the file",
            file=path,
            found=f"{type(error).__name__}: {str(error)[:300]}",
            hint="the file is truncated, corrupt or malicious; download it again",
        ) from error


@contextmanager
def translate_write_errors(path: Path) -> Iterator[None]:
    """Converts exceptions of h5py while writing into the ``OSError`` behind them, e.g. a full disk."""
    try:
        yield
    except _LIBRARY_ERRORS as error:
        for code in _SYSTEM_ERRORS:
            if f"errno = {code}," in str(error):
                raise OSError(code, os.strerror(code), str(path)) from error
        raise ContainerError(
            "HDF5 cannot write the file",
            file=path,
            found=f"{type(error).__name__}: {str(error)[:300]}",
        ) from error


@contextmanager
def open_file(path: Path, span: Extent | None = None) -> Iterator[h5f.FileID]:
    """Opens the file, or a part of it, for reading without file locks, which read-only file systems refuse."""
    with open(path, "rb"):
        pass  # A missing or forbidden file raises OSError, not ContainerError.
    with translate_read_errors(path):
        file = h5py.File(path if span is None else FileWindow.of(span), "r", locking=False)
    try:
        yield file.id
    finally:
        file.close()


def open_object(root: Any, name: str, path: Path) -> Any:
    """Opens the object at ``name`` below the group ``root`` through hard links alone.

    Raises:
        ContainerError: A part is missing, is not a plain name, or is a soft or external link.
    """
    node = root
    for part in name.split("/"):
        if part in ("", ".", "..") or not isinstance(node, h5g.GroupID):
            raise ContainerError("a name is not a path in the file", file=path, tensor=name)
        node = _open_child(node, part.encode("utf-8", "surrogateescape"), path, name)
    return node


def _open_child(group: h5g.GroupID, part: bytes, path: Path, name: str) -> Any:
    with translate_read_errors(path):
        if part not in group:
            raise ContainerError(
                "listed, but missing in the file",
                file=path,
                tensor=name,
                hint="the file is incomplete; download it again",
            )
        hdf5_type = group.links.get_info(part).type
        if hdf5_type == h5l.TYPE_HARD:
            return h5o.open(group, part)
    raise ContainerError(
        "a soft or external link instead of the data",
        file=path,
        tensor=name,
        hint="links can leave the file and are not followed; copy the data into one file",
    )


def object_address(node: Any, path: Path) -> int:
    """Returns the address of the object's header; equal for hard links to one object."""
    with translate_read_errors(path):
        return int(h5o.get_info(node).addr)


def list_datasets(root: h5f.FileID, path: Path) -> Iterator[tuple[str, int]]:
    """Yields path and address of every dataset in the file; enters each group once."""
    with translate_read_errors(path):
        start = h5o.open(root, b"/")
    stack = [("", start, MAX_DEPTH)]
    visited = {object_address(start, path)}
    while stack:
        prefix, group, depth = stack.pop()
        if depth == 0:
            raise ContainerError(f"groups are nested more than {MAX_DEPTH} deep", file=path)
        with translate_read_errors(path):
            parts = list(group)
        for part in parts:
            name = prefix + part.decode("utf-8", "surrogateescape")
            child = _open_child(group, part, path, name)
            path_in_file = object_address(child, path)
            if isinstance(child, h5d.DatasetID):
                yield name, path_in_file
            elif isinstance(child, h5g.GroupID) and path_in_file not in visited:
                visited.add(path_in_file)
                stack.append((name + "/", child, depth - 1))


@dataclass(frozen=True, slots=True)
class StoredDataset:
    """A dataset whose bytes are in the file.

    Attributes:
        path: Its path in the file.
        address: Address of its header; equal for hard links to one dataset.
        dtype: Little-endian dtype.
        shape: Sizes of the axes.
        file: The file.
        extent: Its byte range, if the bytes are contiguous and in native form.
        span: The part of the file that is HDF5; None for all of it.
    """

    path: str
    address: int
    dtype: DType
    shape: tuple[int, ...]
    file: Path
    extent: Extent | None
    span: Extent | None = None

    def read(self) -> Array:
        """Reads the values in C order, little-endian."""
        if self.extent is not None:
            return self.extent.read().view(self.dtype).reshape(self.shape)
        with open_file(self.file, self.span) as root:
            node = open_object(h5g.open(root, b"/"), self.path, self.file)
            if check_dataset(node, self.path, self.file, self.span) != self:
                raise ContainerError("the file changed", file=self.file, tensor=self.path)
            with translate_read_errors(self.file):
                values = np.asarray(h5py.Dataset(node)[()])
        if self.dtype == DTYPES["bfloat16"]:
            values = values.view(self.dtype)
        return np.ascontiguousarray(values, self.dtype).reshape(self.shape)


def check_dataset(
    node: Any, path_in_file: str, path: Path, span: Extent | None = None
) -> StoredDataset:
    """Checks a dataset's type, shape and storage.

    Args:
        node: The dataset.
        path_in_file: Its path in HDF5.
        path: The file.
        span: The part of the file that is HDF5; None for all of it.

    Raises:
        ContainerError: It is not a dataset, or its bytes are not all in this file.
        UnsupportedDtypeError: Its type is unknown.
    """
    if not isinstance(node, h5d.DatasetID):
        raise ContainerError(
            "listed as a weight, but not a dataset", file=path, tensor=path_in_file
        )
    start, size = (0, path.stat().st_size) if span is None else (span.offset, span.nbytes)
    with translate_read_errors(path):
        dtype, native = _find_dtype(node.get_type(), path, path_in_file)
        space, properties = node.get_space(), node.get_create_plist()
        if space.get_simple_extent_type() == h5s.NULL:
            raise ContainerError("the dataset has no shape", file=path, tensor=path_in_file)
        shape = check_shape(list(space.shape), dtype, file=path, tensor=path_in_file)
        nbytes = byte_size(shape, dtype)
        layout = properties.get_layout()
        local = layout != h5d.VIRTUAL and properties.get_external_count() == 0
        is_complete = local and nbytes <= _max_stored_bytes(node, properties, size, shape, dtype)
        contiguous = layout == h5d.CONTIGUOUS or nbytes == 0
        offset = int(node.get_offset() or 0) if is_complete and contiguous and nbytes else 0
    if not is_complete or (contiguous and offset + nbytes > size):
        raise ContainerError(
            "the dataset's bytes are not all in this file",
            file=path,
            tensor=path_in_file,
            expected=f"{nbytes} stored bytes for {dtype} {list(shape)}",
            hint="external, virtual, unallocated and over-compressed datasets are refused",
        )
    extent = Extent(path, start + offset, nbytes) if native and contiguous else None
    address = object_address(node, path)
    return StoredDataset(path_in_file, address, dtype, shape, path, extent, span)


def _max_stored_bytes(
    node: h5d.DatasetID, properties: Any, limit: int, shape: tuple[int, ...], dtype: DType
) -> int:
    """Returns the largest number of bytes that the dataset's storage can expand to; 0 if its filters are not allowed."""
    size = min(int(node.get_storage_size()), limit)
    if properties.get_layout() != h5d.CHUNKED:
        return size
    filters = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    chunk = properties.get_chunk()
    count = prod(-(-axis // step) for axis, step in zip(shape, chunk, strict=True))
    if not _FILTERS.issuperset(filters) or len(set(filters)) != len(filters):
        return 0
    most = size * _DEFLATE_RATIO if h5z.FILTER_DEFLATE in filters else size
    # HDF5 would return fill values for chunks that were never written.
    complete = count == 0 or node.get_num_chunks() == count
    return most if complete and count * byte_size(chunk, dtype) <= most else 0


@cache
def _known_types() -> tuple[tuple[Any, DType, bool], ...]:
    """Returns the known HDF5 types: type, dtype, and whether the bytes are in native form."""
    table: list[tuple[Any, DType, bool]] = []
    for name in STORABLE_DTYPES:
        dtype = DTYPES[name]
        table.append((h5t.py_create(dtype, logical=True), dtype, True))
        if dtype.itemsize > 1:
            table.append((h5t.py_create(dtype.newbyteorder(">"), logical=True), dtype, False))
    bfloat16 = DTYPES["bfloat16"]
    table.append((h5t.py_create(OPAQUE_BFLOAT16, logical=True), bfloat16, True))
    return tuple(table)


def _find_dtype(hdf5_type: Any, path: Path, path_in_file: str) -> tuple[DType, bool]:
    for known, dtype, native in _known_types():
        if known == hdf5_type:
            return dtype, native
    raise UnsupportedDtypeError(
        "unsupported HDF5 type",
        file=path,
        tensor=path_in_file,
        expected="one of " + ", ".join((*STORABLE_DTYPES, "bfloat16 as two opaque bytes")),
        found=f"{type(hdf5_type).__name__} of {hdf5_type.get_size()} bytes",
        hint="save the model in another dtype, e.g. float32",
    )


def check_no_overlap(locations: list[StoredDataset], path: Path) -> None:
    """Checks that different datasets do not share bytes: a small file could expand to a huge one."""
    extents = {location.address: location.extent for location in locations}
    end = 0
    for extent in sorted(
        (extent for extent in extents.values() if extent is not None and extent.nbytes),
        key=lambda extent: extent.offset,
    ):
        if extent.offset < end:
            raise ContainerError(
                "two datasets overlap", file=path, found=f"at byte {extent.offset}"
            )
        end = extent.offset + extent.nbytes
