"""Writes an Orbax checkpoint: zarr arrays in OCDBT, chunk by chunk, and the metadata beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from equipoise.convert.containers._orbax.array_store import (
    FRUGAL_CONTEXT,
    ZARR_DTYPES,
    array_spec,
    import_tensorstore,
)
from equipoise.convert.containers._orbax.tree_metadata import (
    checkpoint_metadata_text,
    tree_metadata_text,
)
from equipoise.convert.containers._shared.checks import check_headers, check_next, check_written
from equipoise.convert.containers._shared.writer_context import WriterContext
from equipoise.convert.core.arrays import Array, Shape
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.convert.core.framework_types import TensorStore
from equipoise.convert.core.tensor import TensorHeader

CHUNK_BYTES = 32 << 20
"""Most bytes of a chunk: as much is held while an array is written or read."""


def chunk_shape(shape: Shape, itemsize: int) -> Shape:
    """Returns the shape of the chunks of an array: whole rows, so that chunks follow each other in C order.

    >>> chunk_shape((128256, 8192), 2), chunk_shape((3, 1 << 25), 4), chunk_shape((), 4)
    ((2048, 8192), (1, 8388608), ())
    """
    chunks = list(shape)
    for axis in range(len(shape)):
        row = math.prod(chunks[axis + 1 :]) * itemsize
        chunks[axis] = max(1, min(chunks[axis], CHUNK_BYTES // max(row, 1)))
        if row * chunks[axis] <= CHUNK_BYTES:
            break
    return tuple(chunks)


class Writer(WriterContext):
    """Writes a checkpoint; ``path`` is its ``_METADATA``, all else lies beside it.

    Args:
        path: The file ``_METADATA`` in a folder of its own.
        headers: What is written; an array without elements is refused, since Orbax itself cannot save one.
        metadata: Not stored.

    Raises:
        InputError: tensorstore is not installed.
        ContainerError: A name, dtype or shape cannot be stored.
    """

    def __init__(
        self, path: Path, headers: Sequence[TensorHeader], metadata: Mapping[str, str]
    ) -> None:
        check_headers(headers, path, shares=False)
        _check_storable(headers, path)
        self._ts = import_tensorstore()
        self._path = path
        self._headers = headers
        self._next = 0
        self._context = self._ts.Context(FRUGAL_CONTEXT)
        self._batch = self._ts.Transaction()
        self._batched = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tree_metadata_text(header.name for header in headers), encoding="utf-8")
        other = path.with_name("_CHECKPOINT_METADATA")
        other.write_text(checkpoint_metadata_text(), encoding="utf-8")

    def write(self, name: str, blocks: Iterable[memoryview]) -> None:
        """Writes the bytes of the next header, in C order.

        Raises:
            ContainerError: Another tensor is next, or the bytes do not match its shape.
        """
        check_next(
            name,
            self._headers[self._next].name if self._next < len(self._headers) else None,
            self._path,
        )
        due = self._headers[self._next]
        self._next += 1
        chunks = _ChunkFiller(due)
        done = 0
        for block in blocks:
            view = memoryview(block).cast("B")
            done += len(view)
            if done > due.nbytes:
                break
            for index, array in chunks.fill(view):
                self._store(due, index, array)
        check_written(name, done, due.nbytes, self._path)

    def _open(self, header: TensorHeader) -> TensorStore:
        """Opens or creates an array in the batch; what is open belongs to one batch."""
        key = header.name.replace("/", ".")
        spec = array_spec("zarr", self._path.parent, key, ocdbt=True)
        spec["store_data_equal_to_fill_value"] = True
        spec["metadata"] = {
            "shape": list(header.shape),
            "chunks": list(chunk_shape(header.shape, header.dtype.itemsize)),
            "dtype": ZARR_DTYPES[header.dtype.name],
            "compressor": None,
            "fill_value": None,
        }
        return self._ts.open(
            spec, open=True, create=True, context=self._context, transaction=self._batch
        ).result()

    def _store(self, header: TensorHeader, index: tuple[slice, ...], array: Array) -> None:
        """Adds a chunk to the batch; writes the batch first if it would be larger than a chunk may be."""
        if self._batched and self._batched + array.nbytes > CHUNK_BYTES:
            self._commit()
        self._open(header)[index] = array
        self._batched += array.nbytes

    def _commit(self) -> None:
        self._batch.commit_async().result()
        self._batch = self._ts.Transaction()
        self._batched = 0

    @property
    def finished_bytes(self) -> int:
        """Number of leading bytes of ``_METADATA`` that are final: all."""
        return self._path.stat().st_size

    @property
    def further_files(self) -> tuple[Path, ...]:
        """The other files of the checkpoint, after it is closed."""
        found = (path for path in self._path.parent.rglob("*") if path.is_file())
        return tuple(sorted(path for path in found if path != self._path))

    def close(self) -> None:
        """Finishes the checkpoint.

        Raises:
            ContainerError: Tensors are missing.
        """
        if self._next < len(self._headers):
            self.abort()
            raise ContainerError(
                "the file was closed before all tensors were written",
                file=self._path,
                tensor=self._headers[self._next].name,
            )
        self._commit()

    def abort(self) -> None:
        """Drops what is not written yet."""
        self._batch.abort()


class _ChunkFiller:
    """Cuts the bytes of an array into its chunks, which follow each other in C order."""

    def __init__(self, header: TensorHeader) -> None:
        self._dtype = header.dtype
        self._shape = header.shape
        self._chunks = chunk_shape(header.shape, header.dtype.itemsize)
        self._at = np.ndindex(
            *(-(-size // chunk) for size, chunk in zip(self._shape, self._chunks, strict=True))
        )
        self._start()

    def _start(self) -> None:
        corner = next(self._at, None)
        if corner is None:
            self._index: tuple[slice, ...] = ()
            self._room = np.empty(0, np.uint8)
            self._filled = 0
            return
        self._index = tuple(
            slice(i * chunk, min((i + 1) * chunk, size))
            for i, chunk, size in zip(corner, self._chunks, self._shape, strict=True)
        )
        sizes = [one.stop - one.start for one in self._index]
        self._room = np.empty(math.prod(sizes) * self._dtype.itemsize, np.uint8)
        self._filled = 0

    def fill(self, view: memoryview) -> Iterable[tuple[tuple[slice, ...], Array]]:
        """Takes bytes; yields place and values of each chunk that is full."""
        while len(view):
            count = min(len(view), len(self._room) - self._filled)
            self._room[self._filled : self._filled + count] = np.frombuffer(view[:count], np.uint8)
            self._filled += count
            view = view[count:]
            if self._filled == len(self._room):
                sizes = [one.stop - one.start for one in self._index]
                yield self._index, self._room.view(self._dtype).reshape(sizes)
                self._start()


def _check_storable(headers: Sequence[TensorHeader], path: Path) -> None:
    names = {header.name for header in headers}
    keys: dict[str, str] = {}
    for header in headers:
        parts = header.name.split("/")
        inner = {"/".join(parts[:count]) for count in range(1, len(parts))}
        same = keys.setdefault(".".join(parts), header.name)
        if "" in parts or inner & names or same != header.name:
            raise ContainerError("the names are no tree", file=path, tensor=header.name)
        if header.dtype.name not in ZARR_DTYPES:
            raise UnsupportedDtypeError(
                f"an Orbax checkpoint cannot hold {header.dtype.name}",
                file=path,
                tensor=header.name,
                hint="choose another dtype with --dtype",
            )
        if 0 in header.shape:
            raise ContainerError(
                "an Orbax checkpoint cannot hold an array without elements",
                file=path,
                tensor=header.name,
                found=str(list(header.shape)),
            )
