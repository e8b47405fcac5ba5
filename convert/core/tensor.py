"""Lazy references to tensors in files: name, dtype and shape are known, the bytes are read on demand."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol, TypeAlias

import ml_dtypes
import numpy as np

from equipoise.convert.core.arrays import Array, DType
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.convert.core.hashing import PassingChecksum

BLOCK_BYTES = 1 << 20
"""Size of the blocks in which tensors are copied."""

_READ_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)
_MAX_AXES = 64
_MAX_BYTES = (1 << 63) - 1
"""Limits of NumPy's arrays."""

NUMPY_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
    "float32", "float64", "complex64", "complex128",
)  # fmt: skip
_ML_DTYPES = (
    "bfloat16", "float8_e4m3", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "float8_e3m4", "float8_e8m0fnu",
)  # fmt: skip
DTYPES: dict[str, DType] = {
    **{name: np.dtype(name) for name in NUMPY_DTYPES},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in _ML_DTYPES},
}
"""Every supported dtype by its NumPy name, which JAX and TensorFlow share."""


def dtype_named(name: str, *, file: str | Path | None = None, tensor: str | None = None) -> DType:
    """Returns the little-endian dtype of a name.

    Raises:
        UnsupportedDtypeError: There is no such dtype in :data:`DTYPES`.
    """
    try:
        return DTYPES[name]
    except KeyError:
        raise UnsupportedDtypeError(
            f"unsupported dtype {name!r}",
            file=file,
            tensor=tensor,
            expected="one of " + ", ".join(DTYPES),
        ) from None


def is_floating(dtype: DType) -> bool:
    """Whether a dtype is a real floating-point type, those of ml_dtypes included."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float8"))


@cache
def dtype_name(dtype: DType) -> str:
    """Returns the name of a dtype in :data:`DTYPES`; NumPy takes microseconds to compute it."""
    return dtype.name


@dataclass(frozen=True, slots=True)
class StoredChecksum:
    """A checksum that a file has for a tensor.

    Attributes:
        tensor: The tensor's name in the file.
        masked_crc32c: The masked CRC-32C of its bytes.
    """

    tensor: str
    masked_crc32c: int

    def check(self, found: PassingChecksum, file: Path) -> None:
        """Checks the bytes that have passed.

        Raises:
            ContainerError: They have another checksum.
        """
        if found.masked() != self.masked_crc32c:
            raise ContainerError(
                "the bytes of the tensor do not match their checksum",
                file=file,
                tensor=self.tensor,
                expected=f"CRC-32C {self.masked_crc32c:08x} (masked)",
                found=f"{found.masked():08x}",
                hint="the file is damaged; download or copy it again",
            )


@dataclass(frozen=True, slots=True)
class Extent:
    """Byte range of a C-contiguous little-endian tensor in a file.

    Attributes:
        path: The file.
        offset: The first byte.
        nbytes: Number of bytes.
        checksum: What the file says of the bytes; it is checked where all of them are read.
    """

    path: Path
    offset: int
    nbytes: int
    checksum: StoredChecksum | None = None

    def blocks(
        self, size: int = BLOCK_BYTES, room: memoryview | None = None
    ) -> Iterator[memoryview]:
        """Yields the bytes in blocks of at most ``size``; a block is valid until the next one.

        Args:
            size: Bytes of a block.
            room: Memory for all the bytes, where they stay.

        Raises:
            ContainerError: The file ends before the extent does, or the bytes do not match their checksum.
        """
        passing = PassingChecksum() if self.checksum is not None else None
        buffer = np.empty(min(size, self.nbytes) if room is None else 0, np.uint8).data
        descriptor = os.open(self.path, _READ_FLAGS)
        try:
            for done in range(0, self.nbytes, size):
                piece = (buffer if room is None else room[done : done + size])[: self.nbytes - done]
                _read_exactly(descriptor, piece, self.offset + done, self.path)
                if passing is not None:
                    passing.update(piece)
                yield piece
        finally:
            os.close(descriptor)
        if self.checksum is not None and passing is not None:
            self.checksum.check(passing, self.path)

    def read(self) -> Array:
        """Reads the bytes into a new uint8 array of shape ``[nbytes]``.

        Raises:
            ContainerError: The file ends before the extent does, or the bytes do not match their checksum.
        """
        out = np.empty(self.nbytes, np.uint8)
        for _ in self.blocks(max(self.nbytes, 1), room=out.data):
            pass
        return out


def _read_exactly(descriptor: int, view: memoryview, offset: int, path: Path) -> None:
    done = 0
    while done < len(view):
        got = os.preadv(descriptor, [view[done:]], offset + done)
        if got == 0:
            raise ContainerError(
                "the file ended while a tensor was read",
                file=path,
                expected=f"{len(view)} bytes at offset {offset}",
                found=f"{done} bytes",
                hint="the file is truncated; download it again",
            )
        done += got


class RangeReader(Protocol):
    """Reads a range of one axis of a tensor without the rest."""

    def read_range(self, axis: int, start: int, stop: int) -> Array:
        """Returns the indices ``start`` to ``stop`` of an axis and all of the others, as a new C-contiguous array."""

    def piece_length(self, axis: int) -> int:
        """Returns how many indices of an axis a piece of the file holds: to read fewer takes as long."""


@dataclass(frozen=True, slots=True)
class ExtentRanges:
    """Ranges of a tensor whose bytes, in C order, lie in one byte range or in several that follow each other.

    Attributes:
        extents: The byte ranges.
        shape: Sizes of the axes.
        dtype: Little-endian dtype.
    """

    extents: tuple[Extent, ...]
    shape: tuple[int, ...]
    dtype: DType

    def piece_length(self, axis: int) -> int:
        """Returns 1: any range can be read alone."""
        return 1

    def read_range(self, axis: int, start: int, stop: int) -> Array:
        """Returns a range of an axis, read run by run.

        Raises:
            ContainerError: The file ends before the tensor does.
        """
        inner = math.prod(self.shape[axis + 1 :]) * self.dtype.itemsize
        run = (stop - start) * inner
        out = np.empty(math.prod(self.shape[:axis]) * run, np.uint8)
        with ExitStack() as opened:
            files = {one.path: os.open(one.path, _READ_FLAGS) for one in self.extents}
            for descriptor in files.values():
                opened.callback(os.close, descriptor)
            for row in range(math.prod(self.shape[:axis])):
                at = (row * self.shape[axis] + start) * inner
                self._read(files, out.data[row * run : (row + 1) * run], at)
        shape = (*self.shape[:axis], stop - start, *self.shape[axis + 1 :])
        return out.view(self.dtype).reshape(shape)

    def _read(self, files: Mapping[Path, int], view: memoryview, offset: int) -> None:
        """Reads bytes of the tensor from an offset on, which may lie in several of its byte ranges."""
        for one in self.extents:
            count = min(one.nbytes - offset, len(view))
            if count > 0:
                _read_exactly(files[one.path], view[:count], one.offset + offset, one.path)
                view = view[count:]
            offset = max(0, offset - one.nbytes)


ByteStream: TypeAlias = Callable[[], Iterator[memoryview]]
"""Yields the bytes of a tensor in C order."""


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A lazy reference to a tensor in a file; only :meth:`read` and :meth:`blocks` do IO.

    Attributes:
        name: The name in the file.
        dtype: Little-endian dtype.
        shape: Sizes of the axes; ``()`` for a scalar.
        file: The file that holds it.
        extent: Its byte range, if the bytes are contiguous in C order.
        load: Reads it if there is no extent; returns a C-contiguous array.
        stream: Yields its bytes in C order, in blocks that are valid until the next one, if they lie in several places.
        ranges: Reads ranges of an axis, where there is no extent and the file allows it.
        identity: Two references with equal identity hold the same bytes by construction
            (views of one storage, links to one dataset); None if unknown.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    file: Path
    extent: Extent | None = None
    load: Callable[[], Array] | None = field(default=None, compare=False, repr=False)
    stream: ByteStream | None = field(default=None, compare=False, repr=False)
    ranges: RangeReader | None = field(default=None, compare=False, repr=False)
    identity: Hashable = None

    def __post_init__(self) -> None:
        """Checks that an array can have the shape.

        Raises:
            ContainerError: It has too many axes, or an array of that shape cannot be addressed.
        """
        # NumPy counts the bytes of an empty array as if axes of size 0 had size 1.
        nbytes = math.prod(filter(None, self.shape)) * self.dtype.itemsize
        if len(self.shape) > _MAX_AXES or nbytes > _MAX_BYTES or min(self.shape, default=0) < 0:
            raise ContainerError(
                "no array can have this shape",
                file=self.file,
                tensor=self.name,
                expected=f"at most {_MAX_AXES} axes and {_MAX_BYTES} bytes",
                found=str(self.shape),
                hint="the file is damaged; download it again",
            )

    @property
    def range_reader(self) -> RangeReader | None:
        """What reads ranges of an axis without the rest; None if the file does not allow it."""
        if self.extent is not None:
            return ExtentRanges((self.extent,), self.shape, self.dtype)
        return self.ranges

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes in C order."""
        return self.size * self.dtype.itemsize

    def read(self) -> Array:
        """Reads the tensor into a new C-contiguous array.

        Raises:
            ContainerError: The file is not what its header said.
        """
        if self.extent is not None:
            return self.extent.read().view(self.dtype).reshape(self.shape)
        if self.load is not None:
            return np.asarray(self.load(), order="C").reshape(self.shape)
        out = np.empty(self.nbytes, np.uint8)
        done = 0
        for block in self.blocks():
            out[done : done + len(block)] = block
            done += len(block)
        return out.view(self.dtype).reshape(self.shape)

    def blocks(self) -> Iterator[memoryview]:
        """Yields the bytes in C order, in blocks; a block is valid until the next one."""
        if self.extent is not None:
            yield from self.extent.blocks()
        elif self.stream is not None:
            yield from self.stream()
        elif self.load is not None:
            yield from array_blocks(self.read())
        else:
            raise ContainerError("the tensor has no bytes", file=self.file, tensor=self.name)


def first_float_dtype(refs: Iterable[TensorRef]) -> DType:
    """Returns the dtype of the first floating-point tensor; float32 if there is none."""
    return next((ref.dtype for ref in refs if is_floating(ref.dtype)), DTYPES["float32"])


def array_blocks(array: Array, size: int = BLOCK_BYTES) -> Iterator[memoryview]:
    """Yields the bytes of a C-contiguous array in blocks of at most ``size``."""
    view = array.reshape(-1).view(np.uint8).data
    for start in range(0, len(view), size):
        yield view[start : start + size]


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """Name, dtype and shape of a tensor that is to be written.

    Attributes:
        name: The name in the file.
        dtype: Little-endian dtype.
        shape: Sizes of the axes.
        group: The top-level layer that owns it in a Keras HDF5 file; other containers ignore it.
        alias_of: Name of an earlier header whose bytes this one shares (a tie), in containers that
            can share; such a header is written without bytes of its own.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    group: str = ""
    alias_of: str | None = None

    @property
    def nbytes(self) -> int:
        """Number of bytes in C order."""
        return math.prod(self.shape) * self.dtype.itemsize
