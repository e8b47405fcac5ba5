"""Weights of Keras 3: ``.weights.h5``, its shards under a ``.weights.json``, and ``.keras`` archives.

Names are paths in HDF5, ``layers/dense/vars/0``: Keras numbers the variables of a layer, and their names are in the model's code
alone. Nothing of an archive's config is built or run, no layer, no lambda: the weights are read in their place in the zip file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from h5py import h5a, h5f, h5g

from equipoise.convert.containers._hdf5.datasets import (
    STORABLE_DTYPES,
    StoredDataset,
    check_dataset,
    check_no_overlap,
    list_datasets,
    open_file,
    open_object,
    translate_read_errors,
)
from equipoise.convert.containers._hdf5.keras3_writer import WEIGHTS_NAME, Writer
from equipoise.convert.containers._shared.checks import check_name
from equipoise.convert.containers._shared.zip_reader import read_zip
from equipoise.convert.containers.base import Container
from equipoise.convert.core.errors import CheckpointError, ContainerError
from equipoise.convert.core.json_values import is_plain_file_name, read_json
from equipoise.convert.core.tensor import Extent, TensorRef
from equipoise.convert.files.containment import check_readable
from equipoise.convert.files.file_names import TASK_PREFIX, TASK_WEIGHTS

__all__ = ["CAN_SHARE_TENSORS", "SUFFIXES", "WRITABLE_DTYPES", "Writer", "read", "sniff"]

SUFFIXES = (".weights.h5", ".keras", ".weights.json")
CAN_SHARE_TENSORS = False
WRITABLE_DTYPES = frozenset({*STORABLE_DTYPES, "bfloat16"})
"""Names of the dtypes that can be written."""

_HDF5_START = b"\x89HDF\r\n\x1a\n"
_ZIP_START = b"PK\3\4"
_ZIP_NAME_OFFSET = 30
_FIRST_ENTRIES = (b"metadata.json", WEIGHTS_NAME.encode())
_KERAS3_GROUPS = (b"vars", b"layers", b"_layer_checkpoint_dependencies")
_KERAS2_NAMES = (b"layer_names", b"layer_names0")
_SHARDED = {"weight_map": {str: (str, [str])}}
_NON_WEIGHTS = (
    (re.compile(r"optimizer/.*"), "state of the optimizer"),
    (re.compile(r"(.*/)?_?seed_generator/vars/\d+"), "state of a random generator"),
    (re.compile(r"(_?loss_tracker|_?compile_metrics|metrics)/.*"), "state of the training"),
)
"""Paths of variables that are no weights -> the reason."""


def sniff(path: Path) -> bool:
    """Whether it is HDF5 in the structure of Keras 3, an archive with such a file, or a list of shards by its name."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(_ZIP_START):
        length = int.from_bytes(head[26:28], "little")
        first = head[_ZIP_NAME_OFFSET : _ZIP_NAME_OFFSET + length]
        return first in _FIRST_ENTRIES or (first == b"config.json" and path.suffix == ".keras")
    if head.startswith(_HDF5_START):
        return _has_keras3_groups(path)
    return path.name.endswith(".weights.json") and head.lstrip()[:1] == b"{"


def _has_keras3_groups(path: Path) -> bool:
    try:
        with open_file(path) as file, translate_read_errors(path):
            root = h5g.open(file, b"/")
            keras2 = b"model_weights" in root or any(h5a.exists(root, one) for one in _KERAS2_NAMES)
            return not keras2 and any(name in root for name in _KERAS3_GROUPS)
    except ContainerError:
        return False


def read(path: Path) -> Container:
    """Reads the location of every variable; those of a preset's head, in ``task.weights.h5``, have ``task/`` before their names.

    Raises:
        CheckpointError: A shard is missing, or is a link that leads out of the folder.
        ContainerError: The file is not one of Keras 3, or a variable is not entirely inside it.
        UnsupportedDtypeError: A variable's type is not supported.
    """
    if not sniff(path):
        raise ContainerError(
            "not weights of Keras 3",
            file=path,
            expected="HDF5 with groups named vars, or a .keras archive",
            hint="the file is damaged, or of another program",
        )
    with open(path, "rb") as file:
        head = file.read(len(_ZIP_START))
    if head == _ZIP_START:
        return _container(path, "archive", {path: _span_of_weights(path)})
    if head == _HDF5_START[: len(head)]:
        return _container(path, "weights", {path: None})
    return _container(path, "shards", dict.fromkeys(_shards(path)))


def _container(path: Path, variant: str, files: dict[Path, Extent | None]) -> Container:
    found: dict[str, StoredDataset] = {}
    for file, span in files.items():
        here = list(_datasets(file, span))
        check_no_overlap(here, file)
        for one in here:
            name = f"{TASK_PREFIX}{one.path}" if file.name == TASK_WEIGHTS else one.path
            if check_name(name, file) in found:
                raise ContainerError("a variable is in two shards", file=file, tensor=one.path)
            found[name] = one
    left_out = {name: why for name, one in found.items() if (why := _non_weight_reason(one.path))}
    tensors = {name: _tensor_ref(name, one) for name, one in found.items() if name not in left_out}
    further = tuple(file for file in files if file != path)
    return Container("keras3", path, tensors, {"variant": variant}, left_out, files=further)


def _non_weight_reason(name: str) -> str | None:
    return next((reason for pattern, reason in _NON_WEIGHTS if pattern.fullmatch(name)), None)


def _datasets(path: Path, span: Extent | None) -> Iterator[StoredDataset]:
    with open_file(path, span) as file:
        for name in _dataset_names(file, path):
            with translate_read_errors(path):
                root = h5g.open(file, b"/")
            yield check_dataset(open_object(root, name, path), name, path, span)


def _dataset_names(file: h5f.FileID, path: Path) -> list[str]:
    return [name for name, _ in list_datasets(file, path)]


def _tensor_ref(name: str, one: StoredDataset) -> TensorRef:
    identity = ("hdf5", str(one.file), one.address)
    return TensorRef(name, one.dtype, one.shape, one.file, one.extent, one.read, identity=identity)


def _span_of_weights(path: Path) -> Extent:
    """Returns the bytes of an archive that are the HDF5 file."""
    archive = read_zip(path)
    entry = archive.entries.get(WEIGHTS_NAME)
    if entry is None or entry.deflated:
        raise ContainerError(
            "the archive has no weights in HDF5"
            if entry is None
            else "the weights in the archive are compressed",
            file=path,
            expected=f"{WEIGHTS_NAME}, stored as Keras stores it",
            found=", ".join(sorted(archive.entries)[:8]),
            hint=f"unpack the archive and give its {WEIGHTS_NAME}" if entry else None,
        )
    return archive.extent(entry)


def _shards(path: Path) -> list[Path]:
    """Returns the files that a list of shards names."""
    try:
        weight_map = read_json(path, _SHARDED)["weight_map"]
    except CheckpointError as error:
        raise ContainerError(error.message, file=path, found=error.found) from error
    names = {
        one
        for value in weight_map.values()
        for one in ([value] if isinstance(value, str) else value)
    }
    for name in sorted(names):
        if not is_plain_file_name(name):
            raise CheckpointError(
                "the list of shards names a file outside its folder", file=path, found=repr(name)
            )
        check_readable(path.parent / name, path.parent)
    return [path.parent / name for name in sorted(names)]
