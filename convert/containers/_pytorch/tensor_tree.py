"""Collects named tensors from an unpickled checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from equipoise.convert.containers._pytorch.allowed_globals import (
    Storage,
    StridedView,
    TorchDtype,
    UnsupportedTensor,
)
from equipoise.convert.containers._pytorch.pickle_values import Instance, Opaque, OpaqueKey
from equipoise.convert.core.arrays import Array, DType
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.convert.core.tensor import DTYPES, Extent, TensorRef

MAX_DEPTH = 64
MAX_MAP_DEPTH = 4
"""Levels of maps whose names are kept."""
MAX_NAME_CHARACTERS = 4096
_MAX_EXPANDED_BYTES = 64 << 20
"""A view may repeat its storage (stride 0) up to this size, or the size of the file."""
_MIN_NODE_BUDGET = 10_000
_MAX_NAME_CHARACTERS_IN_ALL = 64 << 20

_Node: TypeAlias = dict[Any, Any] | list[Any] | tuple[Any, ...]
_Leaf: TypeAlias = StridedView | UnsupportedTensor | str

SINGLE_TENSOR_NAME = "tensor"
"""The name of a tensor that was saved alone."""


@dataclass(frozen=True, slots=True)
class StorageBytes:
    """The bytes of a storage.

    Attributes:
        nbytes: Their number.
        extent: Their byte range, if they are stored uncompressed.
        read: Reads all of them, otherwise.
        big_endian: Whether the elements are big-endian.
    """

    nbytes: int
    extent: Extent | None = None
    read: Callable[[], Array] | None = None
    big_endian: bool = False

    def part(self, start: int, length: int) -> Array:
        """Reads some of the bytes into a new uint8 array."""
        if self.extent is not None:
            return Extent(self.extent.path, self.extent.offset + start, length).read()
        if self.read is None:
            return np.zeros(0, np.uint8)
        return self.read()[start : start + length]


@dataclass
class PickledTensors:
    """The content of a checkpoint.

    Attributes:
        tensors: By dotted name.
        left_out: Name -> why it is not a tensor.
        maps: Names of the upper maps that were visited.
    """

    tensors: dict[str, TensorRef] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    maps: set[str] = field(default_factory=set)


def collect_tensors(
    top: object, path: Path, find_storage: Callable[[Storage], StorageBytes], pickled_bytes: int
) -> PickledTensors:
    """Collects all tensors of an unpickled object under dotted names.

    Args:
        top: The unpickled object.
        path: The file, for messages.
        find_storage: Returns the bytes of a storage; raises ``ContainerError``.
        pickled_bytes: Length of the pickle; limits how often shared parts are visited.

    Raises:
        ContainerError: Names collide, a view reaches beyond its storage, or the nesting is too deep.
        UnsupportedDtypeError: Only PyTorch has a tensor's kind or dtype.
    """
    walk = _TreeWalker(path, max(_MIN_NODE_BUDGET, 4 * pickled_bytes))
    limit = expanded_bytes_limit(path)
    out = PickledTensors()
    if not isinstance(top, (dict, list, tuple)):
        top = {SINGLE_TENSOR_NAME: top}
    for name, value in walk.items(top, "", 0):
        if name in out.tensors or name in out.left_out:
            raise ContainerError("two entries have the same name", file=path, tensor=name)
        if isinstance(value, UnsupportedTensor):
            raise UnsupportedDtypeError(
                f"{value.what} cannot be converted",
                file=path,
                tensor=name,
                hint="make it a plain dense tensor (dequantize(), to_dense(), clone()); save again",
            )
        if isinstance(value, StridedView):
            region = find_storage(value.storage)
            out.tensors[name] = tensor_ref(name, value, path, region, limit)
        else:
            out.left_out[name] = value
    out.maps = walk.maps
    return out


def expanded_bytes_limit(path: Path) -> int:
    """Returns how many bytes a view that repeats its storage may have in a file."""
    return max(_MAX_EXPANDED_BYTES, path.stat().st_size)


class _TreeWalker:
    """Walks nested dicts and lists, with a limit for shared and recursive parts.

    Attributes:
        maps: Names of the upper maps that were visited.
    """

    def __init__(self, path: Path, budget: int) -> None:
        self.maps: set[str] = set()
        self._path = path
        self._node_budget = budget
        self._character_budget = _MAX_NAME_CHARACTERS_IN_ALL

    def items(self, node: _Node, prefix: str, depth: int) -> Iterator[tuple[str, _Leaf]]:
        """Yields names with a tensor, or with the reason for leaving the value out."""
        self._spend(len(node), depth)
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for index, (key, value) in enumerate(items):
            name = self._name(prefix, key, index)
            if isinstance(value, (StridedView, UnsupportedTensor)):
                yield name, value
            elif _is_optimizer(value):
                yield name, "state of an optimizer"
            elif isinstance(value, (dict, list, tuple)) and self._has_tensors(value):
                if isinstance(value, dict) and depth < MAX_MAP_DEPTH:
                    self.maps.add(name)
                yield from self.items(value, f"{name}.", depth + 1)
            else:
                yield name, _left_out_reason(value)

    def _spend(self, count: int, depth: int = 0) -> None:
        self._node_budget -= count
        if self._node_budget < 0 or depth > MAX_DEPTH:
            raise ContainerError(
                "the checkpoint is nested too deeply, or repeats its own parts too often",
                file=self._path,
                expected=f"at most {MAX_DEPTH} levels",
            )

    def _has_tensors(self, value: _Node) -> bool:
        """Whether to visit a value; lists without containers or tensors are one entry."""
        if isinstance(value, dict):
            return len(value) > 0
        self._spend(len(value))
        nested = (dict, list, tuple, StridedView, UnsupportedTensor)
        return any(isinstance(item, nested) for item in value)

    def _name(self, prefix: str, key: object, index: int) -> str:
        name = prefix + _key_text(key, index)
        self._character_budget -= len(name)
        if (
            len(name) > MAX_NAME_CHARACTERS
            or "\0" in name
            or not _is_utf8(name)
            or self._character_budget < 0
        ):
            raise ContainerError("a name is not usable", file=self._path, found=ascii(name[:80]))
        return name


def _is_optimizer(value: object) -> bool:
    """Whether a value is an ``Optimizer.state_dict()``."""
    if not isinstance(value, dict) or value.keys() != {"state", "param_groups"}:
        return False
    return isinstance(value["state"], dict) and isinstance(value["param_groups"], list)


def _key_text(key: object, index: int) -> str:
    if isinstance(key, (OpaqueKey, Instance)):
        return f"<key {index}>"
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _left_out_reason(value: object) -> str:
    if isinstance(value, Opaque):
        return f"{value.what}, not a tensor"
    if isinstance(value, Storage):
        return "storage without a tensor"
    if isinstance(value, TorchDtype):
        return "dtype, not a tensor"
    if isinstance(value, (list, tuple, dict)):
        return f"{type(value).__name__} of {len(value)} values, no tensors"
    return f"{type(value).__name__}, not a tensor"


def tensor_ref(
    name: str, view: StridedView, path: Path, region: StorageBytes, limit: int
) -> TensorRef:
    """Returns the reference for a view of a storage.

    Args:
        name: The tensor's name.
        view: The view.
        path: The file, for messages.
        region: The bytes of the storage.
        limit: How many bytes a view that repeats its storage may have.

    Raises:
        ContainerError: The view reaches beyond its storage, or repeats it too often.
        UnsupportedDtypeError: Only PyTorch has the dtype.
    """
    dtype = DTYPES.get(view.dtype)
    if dtype is None:
        raise UnsupportedDtypeError(f"unsupported dtype torch.{view.dtype}", file=path, tensor=name)
    shape = view.shape
    size = math.prod(shape)
    steps = zip(shape, view.strides, strict=True)
    last = view.offset + sum((n - 1) * step for n, step in steps) if size else -1
    if (last + 1) * dtype.itemsize > region.nbytes:
        raise ContainerError(
            "the tensor reaches beyond its storage",
            file=path,
            tensor=name,
            expected=f"at most {region.nbytes} bytes",
            found=f"an element that ends at byte {(last + 1) * dtype.itemsize}",
        )
    nbytes = size * dtype.itemsize
    if nbytes > limit:
        raise ContainerError(
            "the tensor repeats its storage too often",
            file=path,
            tensor=name,
            found=f"{nbytes} bytes",
            hint="save it again without .expand()",
        )
    strides = tuple(step if n != 1 else 0 for n, step in zip(shape, view.strides, strict=True))
    key = view.storage.view or view.storage.key
    identity = (path, key, view.offset, shape, strides, view.dtype) if size else None
    straight = strides == _c_strides(shape) or not size
    if straight and region.extent is not None and not _needs_byteswap(region, dtype):
        start = region.extent.offset + (view.offset * dtype.itemsize if size else 0)
        extent = Extent(region.extent.path, start, nbytes)
        return TensorRef(name, dtype, shape, path, extent=extent, identity=identity)

    def load() -> Array:
        return _read_view(view, dtype, region, last)

    return TensorRef(name, dtype, shape, path, load=load, identity=identity)


def _c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step if n != 1 else 0)
        step *= n
    return tuple(reversed(strides))


def _needs_byteswap(region: StorageBytes, dtype: DType) -> bool:
    return region.big_endian and dtype.itemsize > 1


def _read_view(view: StridedView, dtype: DType, region: StorageBytes, last: int) -> Array:
    """Reads the part of a storage that a view needs, and returns a copy of the view."""
    if last < 0:
        return np.empty(view.shape, dtype)
    start = view.offset * dtype.itemsize
    raw = region.part(start, (last + 1) * dtype.itemsize - start)
    if _needs_byteswap(region, dtype):
        unit = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
        raw = np.ascontiguousarray(raw.reshape(-1, unit)[:, ::-1]).reshape(-1)
    steps = tuple(
        step * dtype.itemsize if n > 1 else 0
        for n, step in zip(view.shape, view.strides, strict=True)
    )
    window = np.lib.stride_tricks.as_strided(raw.view(dtype), view.shape, steps, writeable=False)
    return np.array(window, order="C")
