"""Tensors by reference: name, dtype and shape now, bytes when asked for."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import ml_dtypes
import numpy as np

from equipoise.convert.core.arrays import Array, DType
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError

BLOCK_BYTES = 1 << 20
"""Size of the pieces in which tensors travel when nothing has to be permuted."""

_NUMPY_NAMES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
_ML_DTYPES_NAMES = (
    *("bfloat16", "float8_e4m3", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz"),
    *("float8_e5m2", "float8_e5m2fnuz", "float8_e3m4", "float8_e8m0fnu"),
)
DTYPES: dict[str, DType] = {
    **{name: np.dtype(name) for name in _NUMPY_NAMES},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in _ML_DTYPES_NAMES},
}
"""Every dtype that this package handles, by the name that numpy, JAX and TensorFlow share."""


def dtype_named(name: str, *, file: str | Path | None = None, tensor: str | None = None) -> DType:
    """The little-endian dtype of that name.

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


@dataclass(frozen=True)
class Extent:
    """Where a C-contiguous little-endian tensor lies in a file, in bytes."""

    path: Path
    offset: int
    nbytes: int

    def blocks(self, size: int = BLOCK_BYTES) -> Iterator[memoryview]:
        """The bytes in order, in pieces of at most ``size``, each with memory of its own.

        Raises:
            ContainerError: The file ends before the extent does.
        """
        with open(self.path, "rb", buffering=0) as file:
            for done in range(0, self.nbytes, size):
                piece = np.empty(min(size, self.nbytes - done), np.uint8).data
                _read_exactly(file.fileno(), piece, self.offset + done, self.path)
                yield piece

    def read(self) -> Array:
        """The bytes as a new uint8 array of shape ``[nbytes]``."""
        out = np.empty(self.nbytes, np.uint8)
        with open(self.path, "rb", buffering=0) as file:
            _read_exactly(file.fileno(), out.data, self.offset, self.path)
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
                hint="the file is truncated; fetch it again",
            )
        done += got


@dataclass(frozen=True)
class TensorRef:
    """A tensor in a file; creating one and looking at name, dtype and shape does no reading.

    Attributes:
        name: The name as the container spells it.
        dtype: Little-endian dtype.
        shape: Sizes of the axes; ``()`` for a scalar.
        file: The file that holds it.
        extent: Where its bytes lie when they lie in one piece in C order.
        load: Reads it when there is no extent; returns a C-contiguous array.
        identity: Two references with equal identity hold the same bytes by construction
            (views of one storage, links to one dataset); None when that is not known.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    file: Path
    extent: Extent | None = None
    load: Callable[[], Array] | None = field(default=None, compare=False, repr=False)
    identity: Hashable = None

    @cached_property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes in C order."""
        return self.size * self.dtype.itemsize

    def read(self) -> Array:
        """The tensor as an array of its own, C-contiguous, in host memory.

        Raises:
            ContainerError: The file is not what its header said.
        """
        if self.extent is not None:
            return self.extent.read().view(self.dtype).reshape(self.shape)
        if self.load is None:
            raise ContainerError("the tensor has no bytes", file=self.file, tensor=self.name)
        return np.asarray(self.load(), order="C").reshape(self.shape)

    def blocks(self) -> Iterator[memoryview]:
        """The bytes in C order, in pieces that stay as they are."""
        if self.extent is not None:
            yield from self.extent.blocks()
        else:
            yield from array_blocks(self.read())


def first_float_dtype(refs: Iterable[TensorRef]) -> DType:
    """Returns the dtype of the first floating-point tensor; float32 if there is none."""
    return next((ref.dtype for ref in refs if is_floating(ref.dtype)), DTYPES["float32"])


def array_blocks(array: Array, size: int = BLOCK_BYTES) -> Iterator[memoryview]:
    """The bytes of a C-contiguous array in pieces of at most ``size``."""
    view = array.reshape(-1).view(np.uint8).data
    for start in range(0, len(view), size):
        yield view[start : start + size]


@dataclass(frozen=True)
class TensorHeader:
    """What a writer must know of a tensor before its bytes come.

    Attributes:
        name: The name as the container is to spell it.
        dtype: Little-endian dtype.
        shape: Sizes of the axes.
        group: The top-level layer that owns it in a Keras HDF5 file; others ignore it.
        alias_of: Name of an earlier header whose bytes this one shares (a tie), where the
            container can share; such a header gets no bytes of its own.
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
