"""Checkpoints of Orbax, the home of Flax and JAX models: a folder with ``_METADATA`` and arrays in OCDBT or zarr.

The file that stands for a checkpoint is its ``_METADATA``. Reading and writing need the package tensorstore (extra ``orbax``).
Arrays are read by rows of their chunks, and written in chunks of 32 MiB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from equipoise.convert.containers._orbax.array_store import ZARR_DTYPES, ArrayStore, StoredArray
from equipoise.convert.containers._orbax.tree_metadata import read_tree_metadata
from equipoise.convert.containers._orbax.writer import Writer
from equipoise.convert.containers._shared.checks import check_shape
from equipoise.convert.containers.base import Container
from equipoise.convert.core.errors import CheckpointError, ContainerError
from equipoise.convert.core.tensor import TensorRef

__all__ = [
    "CAN_HOLD_EMPTY_TENSORS",
    "CAN_SHARE_TENSORS",
    "FILENAME",
    "SUFFIXES",
    "WRITABLE_DTYPES",
    "Writer",
    "read",
    "sniff",
]

SUFFIXES = ("_METADATA",)
FILENAME = "_METADATA"
CAN_SHARE_TENSORS = False
CAN_HOLD_EMPTY_TENSORS = False
"""Orbax itself cannot save an array without elements."""
WRITABLE_DTYPES = frozenset(ZARR_DTYPES)
"""Names of the dtypes that can be written."""
_HEAD = re.compile(rb'\s*\{\s*"tree_metadata"')
_HEAD_BYTES = 64
_RNG_STATE = re.compile(r"(.*/)?rngs/(.*/)?(key|count)")
"""Names of the states of random generators that modules of NNX hold, e.g. those of dropout."""
_RANDOM = "state of a random generator"
_INCOMPLETE = "the checkpoint is not complete; copy it again"
_NNX_KEY = "/value"
"""The last key of a parameter that ``nnx.State`` holds as a variable."""


def sniff(path: Path) -> bool:
    """Whether the file is JSON that begins with the field ``tree_metadata``."""
    with open(path, "rb") as file:
        return _HEAD.match(file.read(_HEAD_BYTES)) is not None


def read(path: Path) -> Container:
    """Opens the arrays of the checkpoint that ``_METADATA`` belongs to; reads none.

    Raises:
        InputError: tensorstore is not installed.
        CheckpointError: Chunks are missing, or a file is a link that leads out of the folder.
        UnsupportedDtypeError: An array has a dtype that no other container has.
        ContainerError: The metadata or the store is damaged.
    """
    if not sniff(path):
        raise ContainerError(
            "not the metadata of an Orbax checkpoint",
            file=path,
            expected='JSON with "tree_metadata"',
            hint="the checkpoint is damaged, or older than Orbax 0.3",
        )
    try:
        tree = read_tree_metadata(path)
    except CheckpointError as error:
        raise ContainerError(error.message, file=path, found=error.found) from error
    store = ArrayStore(path.parent, path, zarr3=tree.zarr3)
    arrays = dict(zip(tree.arrays, store.open(list(tree.arrays.values())), strict=True))
    if tree.stores_all:
        for name, array in arrays.items():
            array.check_complete(name, len(store.chunks.get(array.name, ())), _INCOMPLETE)
    tensors = {name: _tensor_ref(name, one, path) for name, one in arrays.items()}
    kind = "zarr3" if tree.zarr3 else "zarr"
    bare = _without_nnx_keys(tensors)
    left_out = {name: _RANDOM for name in bare if _RNG_STATE.fullmatch(name)}
    weights = {name: ref for name, ref in bare.items() if name not in left_out}
    oddities = ("the parameters are variables of an nnx.State",) if bare is not tensors else ()
    files = tuple(one for one in store.files if one != path)
    left_out = {**tree.left_out, **left_out}
    return Container("orbax", path, weights, {"variant": kind}, left_out, oddities, files=files)


def _tensor_ref(name: str, array: StoredArray, path: Path) -> TensorRef:
    shape = check_shape(array.shape, array.dtype, file=path, tensor=name)
    return TensorRef(name, array.dtype, shape, path, stream=array.blocks, ranges=array)


def _without_nnx_keys(tensors: Mapping[str, TensorRef]) -> Mapping[str, TensorRef]:
    """Returns the tensors without the key ``value`` at the end of each name, if all have it."""
    if not tensors or not all(name.endswith(_NNX_KEY) for name in tensors):
        return tensors
    bare = {name.removesuffix(_NNX_KEY): ref for name, ref in tensors.items()}
    return {name: replace(ref, name=name) for name, ref in bare.items()}
