"""Arrays of a checkpoint of Orbax or T5X: zarr arrays in a key-value store of OCDBT, or in folders; tensorstore reads and writes them."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from equipoise.convert.containers._orbax.chunk_bytes import (
    HEAD_BYTES,
    check_declared_sizes,
    check_stored_size,
)
from equipoise.convert.core.arrays import Array, DType, Shape
from equipoise.convert.core.errors import CheckpointError, ContainerError, InputError
from equipoise.convert.core.framework_types import JsonValue, TensorStore, TensorStoreModule
from equipoise.convert.core.tensor import DTYPES, array_blocks, dtype_named
from equipoise.convert.files.containment import check_readable

Spec: TypeAlias = dict[str, JsonValue]

_BAND_BYTES = 16 << 20
"""How much of an array is read at once, if its chunks are smaller."""
_MIN_EXPANDED_BYTES = 64 << 20
_MAX_EXPANSION = 256
"""Chunks may be this large, or this many times the bytes of the whole checkpoint; weights barely compress."""
_AT_ONCE = 256
"""Arrays that are opened at once."""
_METADATA_KEYS = (".zarray", "zarr.json")
_STORE_ERRORS = (ValueError, RuntimeError, KeyError, NotImplementedError, OverflowError)
"""Classes of tensorstore's errors."""
FRUGAL_CONTEXT = {
    "cache_pool": {"total_bytes_limit": 0},
    "data_copy_concurrency": {"limit": 1},
    "file_io_concurrency": {"limit": 1},
}
"""Settings of tensorstore that hold little in memory: no cache, and one chunk at a time."""


def import_tensorstore() -> TensorStoreModule:
    """Returns the module.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module("tensorstore")
    except ImportError:
        raise InputError(
            "checkpoints of Orbax and T5X need the package tensorstore, which is not installed: pip install 'equipoise[orbax]'"
        ) from None


@dataclass(frozen=True)
class StoredArray:
    """An array that is open.

    Attributes:
        name: Its name in the store.
        dtype: Its dtype.
        shape: Its shape.
        chunks: The shape of its chunks.
        store: The array of tensorstore.
        file: The file that stands for the checkpoint, for messages.
        check_chunks: Checks what its chunks declare, once, before they are read.
    """

    name: str
    dtype: DType
    shape: Shape
    chunks: Shape
    store: TensorStore
    file: Path
    check_chunks: Callable[[], None]

    @property
    def chunk_count(self) -> int:
        """Number of chunks that hold the whole array."""
        pairs = zip(self.shape, self.chunks, strict=True)
        return math.prod(-(-size // chunk) for size, chunk in pairs)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of chunks: what is held at least while the array is read."""
        if not self.shape:
            return self.dtype.itemsize
        inner = (max(pair) for pair in zip(self.shape[1:], self.chunks[1:], strict=True))
        return self.chunks[0] * math.prod(inner) * self.dtype.itemsize

    def blocks(self) -> Iterator[memoryview]:
        """Yields the bytes in C order, and holds a row of chunks at a time.

        Raises:
            ContainerError: A chunk is missing or corrupt.
        """
        if not self.shape:
            yield from array_blocks(self._read(()))
            return
        rows = self.chunks[0] * max(1, _BAND_BYTES // max(1, self.row_bytes))
        for start in range(0, self.shape[0], rows):
            yield from array_blocks(self._read((slice(start, min(start + rows, self.shape[0])),)))

    def piece_length(self, axis: int) -> int:
        """Returns the length of a chunk along an axis."""
        return self.chunks[axis]

    def read_range(self, axis: int, start: int, stop: int) -> Array:
        """Returns the indices ``start`` to ``stop`` of an axis, and all of the others.

        Raises:
            ContainerError: A chunk is missing or corrupt.
        """
        return self._read((*[slice(None)] * axis, slice(start, stop)))

    def _read(self, index: tuple[slice, ...]) -> Array:
        self.check_chunks()
        try:
            found = self.store[index].read(order="C").result()
        except _STORE_ERRORS as error:
            raise store_error("cannot be read", self.file, error, self.name) from error
        return np.asarray(found, order="C")

    def check_complete(self, tensor: str, found: int, hint: str) -> None:
        """Checks that all chunks are there: tensorstore takes one that is missing for zeros.

        Args:
            tensor: The name of the tensor, for the message.
            found: Number of chunks in the store.
            hint: What to do.

        Raises:
            CheckpointError: There are fewer.
        """
        if found < self.chunk_count:
            raise CheckpointError(
                "chunks of the array are missing",
                file=self.file,
                tensor=tensor,
                expected=f"{self.chunk_count} chunks",
                found=f"{found}",
                hint=hint,
            )


def store_error(
    what: str, file: Path, error: Exception, tensor: str | None = None
) -> ContainerError:
    """Returns the error for one of tensorstore, which says its reason in the first line."""
    reason = str(error).partition(" [")[0].splitlines() or [type(error).__name__]
    return ContainerError(
        f"{what}: {reason[0][:300]}",
        file=file,
        tensor=tensor,
        hint="the checkpoint is damaged or not complete; copy it again",
    )


class ArrayStore:
    """The arrays of a checkpoint that exists.

    Args:
        folder: The folder of the checkpoint.
        file: The file that stands for it, for messages.
        zarr3: Whether arrays are of zarr 3.

    Raises:
        InputError: tensorstore is not installed.
        ContainerError: The store is damaged.
    """

    def __init__(self, folder: Path, file: Path, *, zarr3: bool) -> None:
        self._ts = import_tensorstore()
        self._folder = folder
        self._file = file
        self._driver = "zarr3" if zarr3 else "zarr"
        self._context = self._ts.Context(FRUGAL_CONTEXT)
        self._ocdbt = os.path.lexists(folder / "manifest.ocdbt")
        self.files = _files_below(folder)
        self._sizes = {path: path.stat().st_size for path in self.files}
        self._stored_bytes = sum(self._sizes.values())
        self.chunks = self._list()

    def _list(self) -> dict[str, list[str]]:
        """Returns the keys of the chunks by the name of their array."""
        if self._ocdbt:
            try:
                keys = [
                    key.decode("utf-8", "replace") for key in self._key_values().list().result()
                ]
            except _STORE_ERRORS as error:
                raise store_error(
                    "the store of the arrays is damaged", self._file, error
                ) from error
        else:
            keys = [path.relative_to(self._folder).as_posix() for path in self.files]
        return _chunk_keys(keys)

    def _key_values(self) -> TensorStore:
        """Returns the key-value store of OCDBT."""
        base = {"driver": "file", "path": f"{self._folder}/"}
        spec = {"driver": "ocdbt", "base": base}
        return self._ts.KvStore.open(spec, context=self._context).result()

    def _check_chunks(self, name: str, chunk_bytes: int) -> None:
        """Checks what the frames of Zstandard of an array's chunks declare."""
        keys = self.chunks.get(name, [])
        if self._ocdbt:
            store = self._key_values()
            heads = (bytes(store.read(key).result().value[:HEAD_BYTES]) for key in keys)
        else:
            heads = (_head(self._folder / key) for key in keys)
        check_declared_sizes(heads, chunk_bytes, self._file, name)

    def open(self, names: Sequence[str]) -> list[StoredArray]:
        """Opens arrays.

        Raises:
            UnsupportedDtypeError: An array has a dtype that no other container has.
            ContainerError: An array is missing or corrupt.
        """
        found = []
        for start in range(0, len(names), _AT_ONCE):
            here = names[start : start + _AT_ONCE]
            found += [
                self._finish_opening(name, future)
                for name, future in zip(here, map(self._start, here), strict=True)
            ]
        return found

    def _start(self, name: str) -> Future[TensorStore]:
        spec = array_spec(self._driver, self._folder, name, ocdbt=self._ocdbt)
        try:
            future: Future[TensorStore] = self._ts.open(spec, context=self._context, read=True)
        except _STORE_ERRORS as error:
            raise store_error("cannot be opened", self._file, error, name) from error
        return future

    def _finish_opening(self, name: str, future: Future[TensorStore]) -> StoredArray:
        try:
            store = future.result()
        except _STORE_ERRORS as error:
            raise store_error("cannot be opened", self._file, error, name) from error
        dtype = dtype_named(str(store.dtype.name), file=self._file, tensor=name)
        chunks = tuple(store.chunk_layout.write_chunk.shape or store.shape)
        chunk_bytes = math.prod(chunks) * dtype.itemsize
        check = partial(self._check_chunks, name, chunk_bytes) if _is_zstd(store) else _no_check
        shape = tuple(store.shape)
        array = StoredArray(name, dtype, shape, chunks, store, self._file, cache(check))
        limit = max(_MIN_EXPANDED_BYTES, _MAX_EXPANSION * self._stored_bytes)
        if array.row_bytes > limit:
            raise ContainerError(
                "the chunks of the array are too large for the bytes that are stored",
                file=self._file,
                tensor=name,
                expected=f"at most {limit} bytes",
                found=f"{array.row_bytes} bytes in chunks of {list(chunks)}",
            )
        for key in () if self._ocdbt else self.chunks.get(name, ()):
            check_stored_size(self._sizes[self._folder / key], chunk_bytes, self._file, name)
        return array


def _is_zstd(store: TensorStore) -> bool:
    return "zstd" in str(store.codec)


def _no_check() -> None:
    """Checks nothing: other compressions are decompressed only as far as a chunk reaches."""


def _head(path: Path) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(HEAD_BYTES)


def array_spec(driver: str, folder: Path, name: str, *, ocdbt: bool) -> Spec:
    """Returns what tensorstore opens for an array."""
    base = {"driver": "file", "path": f"{folder}/"}
    place = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
    if not ocdbt:
        place = {"driver": "file", "path": f"{folder}/{name}/"}
    return {"driver": driver, "kvstore": place, "recheck_cached_data": False}


def _chunk_keys(keys: Sequence[str]) -> dict[str, list[str]]:
    arrays: dict[str, list[str]] = {
        key.rpartition("/")[0]: [] for key in keys if key.rpartition("/")[2] in _METADATA_KEYS
    }
    for key in keys:
        folder, _, last = key.rpartition("/")
        while folder and folder not in arrays:
            folder = folder.rpartition("/")[0]  # zarr 3 has chunks in folders: NAME/c/0/1
        if folder and last not in _METADATA_KEYS:
            arrays[folder].append(key)
    return arrays


def _files_below(folder: Path) -> tuple[Path, ...]:
    """Returns all files below a folder.

    Raises:
        CheckpointError: One is a link that leads out of it, or no regular file.
    """
    found = []
    for at, folders, names in os.walk(folder):
        for name in [*names, *(one for one in folders if os.path.islink(os.path.join(at, one)))]:
            path = Path(at) / name
            check_readable(path, folder)
            found.append(path)
    return tuple(sorted(found))


ZARR_DTYPES = {
    name: name if name == "bfloat16" else dtype.str.replace("=", "<")
    for name, dtype in DTYPES.items()
    if not name.startswith("float8")
}
"""Dtypes that can be written -> their names in zarr 2."""
