"""Checkpoints of T5X: a file ``checkpoint`` of msgpack, in which large arrays are placeholders for zarr arrays in folders beside it.

A placeholder is the specification that T5X gave to tensorstore: ``driver``, ``kvstore`` with a path, ``metadata``. The path is one folder beside the
file, ``target.encoder.layers_0.mlp.wo.kernel``; nothing else is opened. The parameters are the tree ``target``; the rest is the state of a training.
Reading needs the package tensorstore (extra ``orbax``).
"""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.containers._msgpack.scanner import MapNode, Node, OtherNode, scan_file
from equipoise.convert.containers._msgpack.tree import read_tree, starts_as_map
from equipoise.convert.containers._orbax.array_store import ArrayStore, StoredArray
from equipoise.convert.containers._shared.checks import check_shape
from equipoise.convert.containers.base import Container
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.convert.core.json_values import is_plain_file_name
from equipoise.convert.core.tensor import TensorRef

SUFFIXES = ("checkpoint",)
FILENAME = "checkpoint"
_PARAMETERS = "target/"
_STATE = "state of the training"
_DRIVER, _STORE, _METADATA = "driver", "kvstore", "metadata"
_INCOMPLETE = "the checkpoint is not complete; copy it again (T5X stores no chunk whose values are all 0, which cannot be told from a missing one)"
_OLD_BFLOAT16 = "uint16"
"""As which checkpoints of version 2 hold bfloat16; T5X itself refuses them."""


def sniff(path: Path) -> bool:
    """Whether the file begins with a map of msgpack."""
    return starts_as_map(path)


def read(path: Path) -> Container:
    """Reads the tree and opens the arrays of its parameters; reads none.

    Raises:
        InputError: tensorstore is not installed.
        CheckpointError: Chunks are missing, or a file is a link that leads out of the folder.
        UnsupportedDtypeError: An array has a dtype that no other container has.
        ContainerError: The file or an array is damaged, or a placeholder points elsewhere.
    """
    root = scan_file(path)
    # T5X saves {version, optimizer: {target, state}}.
    state = root.entries.get("optimizer")
    tree = read_tree(path, state if isinstance(state, MapNode) else root, _is_placeholder)
    names = (*tree.left_out, *tree.tensors, *tree.placeholders)
    start = _PARAMETERS if any(name.startswith(_PARAMETERS) for name in names) else ""
    left_out: dict[str, str] = {}
    tensors: dict[str, TensorRef] = {}
    folders: dict[str, str] = {}
    for name in names:
        if not name.startswith(start) or name in tree.left_out:
            left_out[name] = tree.left_out[name] if name.startswith(start) else _STATE
        elif name in tree.tensors:
            tensors[name] = tree.tensors[name]
        else:
            folders[name] = _folder(name, tree.placeholders[name], path)
    files: tuple[Path, ...] = ()
    if folders:
        _check_distinct(folders, path)
        store = ArrayStore(path.parent, path, zarr3=False)
        arrays = dict(zip(folders, store.open(list(folders.values())), strict=True))
        for name, array in arrays.items():
            tensors[name] = _tensor_ref(name, array, tree.placeholders[name])
            array.check_complete(name, len(store.chunks.get(array.name, ())), _INCOMPLETE)
        opened = set(folders.values())
        files = tuple(one for one in store.files if one.relative_to(path.parent).parts[0] in opened)
    return Container(
        "t5x_checkpoint", path, tensors, {}, left_out, tuple(tree.oddities), files=files
    )


def _is_placeholder(node: MapNode) -> bool:
    """Whether a map is the specification of an array: no tree of parameters has a text of that name."""
    return {_DRIVER, _STORE, _METADATA} <= node.entries.keys() and _text(node, _DRIVER) is not None


def _text(node: Node | None, key: str) -> str | None:
    entry = node.entries.get(key) if isinstance(node, MapNode) else None
    value = entry.value if isinstance(entry, OtherNode) else None
    return value if isinstance(value, str) else None


def _folder(name: str, node: MapNode, path: Path) -> str:
    """Returns the folder that a placeholder names; tensorstore before 0.1.14 wrote the path beside the store."""
    found = _text(node.entries[_STORE], "path") or _text(node, "path") or ""
    folder = found.removesuffix("/")
    driver = _text(node, _DRIVER)
    if driver != "zarr" or not is_plain_file_name(folder):
        raise ContainerError(
            "a placeholder names no array of zarr beside this file",
            file=path,
            tensor=name,
            expected="the driver zarr, and one folder beside the file",
            found=f"{driver!r}, {found!r}",
            hint="the file is damaged or malicious",
        )
    return folder


def _check_distinct(folders: dict[str, str], path: Path) -> None:
    owners: dict[str, str] = {}
    for name, folder in folders.items():
        other = owners.setdefault(folder, name)
        if other != name:
            raise ContainerError(
                "two placeholders name one array",
                file=path,
                tensor=name,
                found=f"{folder!r}, as {other!r} does",
                hint="the file is damaged",
            )


def _tensor_ref(name: str, array: StoredArray, node: MapNode) -> TensorRef:
    """Returns the reference to an array, which must be what its placeholder says."""
    shape = check_shape(array.shape, array.dtype, file=array.file, tensor=name)
    metadata = node.entries[_METADATA]
    declared = metadata.entries.get("shape") if isinstance(metadata, MapNode) else None
    if isinstance(declared, OtherNode) and declared.value != shape:
        raise ContainerError(
            "an array has another shape than its placeholder says",
            file=array.file,
            tensor=name,
            expected=str(
                list(declared.value) if isinstance(declared.value, tuple) else declared.kind
            ),
            found=str(list(shape)),
            hint="the checkpoint is damaged, or put together from several; copy it again",
        )
    if array.dtype.name == _OLD_BFLOAT16:
        raise UnsupportedDtypeError(
            "bfloat16 stored as uint16, as T5X did before 2021-06",
            file=array.file,
            tensor=name,
            expected="bfloat16 of its own, or another dtype",
            hint="take a checkpoint that a later T5X saved",
        )
    return TensorRef(name, array.dtype, shape, array.file, stream=array.blocks, ranges=array)
