"""Writes Keras HDF5: h5py creates the structure and allocates the data, then the bytes are written in place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from equipoise.convert.containers._hdf5.datasets import (
    OPAQUE_BFLOAT16,
    STORABLE_DTYPES,
    translate_write_errors,
)
from equipoise.convert.containers._shared.checks import check_headers
from equipoise.convert.containers._shared.slot_file import Slot, SlotFile, SlotWriter
from equipoise.convert.core.errors import ContainerError, UnsupportedDtypeError
from equipoise.convert.core.tensor import TensorHeader

TOP_LEVEL_GROUP = "top_level_model_weights"
"""The group of variables outside of any layer; Keras always creates it."""

MAX_ATTRIBUTE_BYTES = 64512
"""Keras's ``HDF5_OBJECT_HEADER_LIMIT``: longer lists are split into numbered parts."""

_DEFAULT_METADATA = {"backend": "tensorflow", "keras_version": "2.21.0"}
"""Defaults of the metadata; the layout was compared with files of this Keras version."""


class Writer(SlotWriter):
    """Writes one file.

    Metadata ``variant`` chooses between ``keras`` (the default) and ``flat``; ``backend`` and
    ``keras_version`` are kept; the keys of ``groups`` (JSON, as the reader returns it) determine the order of the
    layers and name those without weights. A header without a group belongs to the model itself. An alias
    becomes a hard link; an alias with its original's name must be in another group.
    """

    def __init__(
        self, path: Path, headers: Sequence[TensorHeader], metadata: Mapping[str, str]
    ) -> None:
        check_headers(headers, path, shares=True, has_groups=True)
        for header in headers:
            check_header(header, path)
        variant = metadata.get("variant", "keras")
        if variant not in ("keras", "flat"):
            raise ContainerError(
                "unknown variant", file=path, expected="keras, flat", found=variant
            )
        with open(path, "wb"):
            pass  # A folder without write permission raises OSError, not ContainerError.
        with (
            translate_write_errors(path),
            h5py.File(path, "w", libver=("earliest", "v110")) as file,
        ):
            if variant == "flat":
                names = sorted(header.name for header in headers)
                slots = _create_datasets(file, [("", header) for header in headers])
                _save_names(file, "layer_names", names, path)
            else:
                slots = _create_keras_structure(file, headers, metadata, path)
        self._file = SlotFile(path, slots)


def check_header(header: TensorHeader, path: Path) -> None:
    """Checks that HDF5 can hold a tensor.

    Raises:
        UnsupportedDtypeError: It has no such dtype.
        ContainerError: The name is no path.
    """
    parts = header.name.split("/")
    if header.dtype.name not in (*STORABLE_DTYPES, "bfloat16"):
        raise UnsupportedDtypeError(
            f"HDF5 files of Keras cannot hold {header.dtype.name}",
            file=path,
            tensor=header.name,
            hint="convert it to another dtype, e.g. --dtype fp32",
        )
    if "" in parts or "." in parts:
        raise ContainerError("the name is not a path in HDF5", file=path, tensor=header.name)


def _create_keras_structure(
    file: h5py.File, headers: Sequence[TensorHeader], metadata: Mapping[str, str], path: Path
) -> list[Slot]:
    weights: dict[str, list[str]] = {layer: [] for layer in _layers_from_metadata(metadata, path)}
    for header in headers:
        weights.setdefault(header.group or TOP_LEVEL_GROUP, []).append(header.name)
    layers = [layer for layer in weights if layer != TOP_LEVEL_GROUP]
    _save_names(file, "layer_names", layers, path)
    for name, default in _DEFAULT_METADATA.items():
        file.attrs[name] = metadata.get(name, default).encode()
    for layer in [*sorted(layers), TOP_LEVEL_GROUP]:
        group = file.create_group(layer)
        _save_names(group, "weight_names", weights.get(layer, []), path)
    return _create_datasets(file, [(header.group or TOP_LEVEL_GROUP, header) for header in headers])


def _layers_from_metadata(metadata: Mapping[str, str], path: Path) -> list[str]:
    try:
        groups = json.loads(metadata.get("groups", "{}"))
    except ValueError as error:
        raise ContainerError("metadata 'groups' is not JSON", file=path) from error
    if not isinstance(groups, dict):
        raise ContainerError("metadata 'groups' is not a JSON object of layers", file=path)
    return list(groups)


def _create_datasets(file: h5py.File, grouped: Sequence[tuple[str, TensorHeader]]) -> list[Slot]:
    """Creates the datasets and hard links; returns where the bytes go."""
    slots: list[Slot] = []
    first: dict[str, str] = {}
    parents = h5p.create(h5p.LINK_CREATE)
    parents.set_create_intermediate_group(True)
    for group, header in grouped:
        path_in_file = f"{group}/{header.name}" if group else header.name
        if header.alias_of is not None:
            source = first[header.alias_of].encode()
            file.id.links.create_hard(path_in_file.encode(), file.id, source, lcpl=parents)
        else:
            offset = create_dataset(file, path_in_file, header, parents)
            slots.append(Slot(header.name, ((offset, header.nbytes),)))
        first.setdefault(header.name, path_in_file)
    return slots


def create_dataset(file: h5py.File, path_in_file: str, header: TensorHeader, parents: Any) -> int:
    """Creates a dataset that is allocated immediately; returns its offset."""
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_layout(h5d.CONTIGUOUS)
    properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    stored_as = OPAQUE_BFLOAT16 if header.dtype.name == "bfloat16" else header.dtype
    kind = h5t.py_create(stored_as, logical=True)
    space = h5s.create_simple(header.shape) if header.shape else h5s.create(h5s.SCALAR)
    dataset = h5d.create(file.id, path_in_file.encode(), kind, space, properties, parents)
    # A dataset without elements has no offset.
    return int(dataset.get_offset() or 0)


def _save_names(node: h5py.Group, name: str, names: Sequence[str], path: Path) -> None:
    """Stores a list of strings like Keras: in one attribute if it fits, else in numbered parts."""
    data = [entry.encode() for entry in names]
    too_long = [entry for entry in data if len(entry) > MAX_ATTRIBUTE_BYTES]
    if too_long:
        raise ContainerError("a name is too long", file=path, found=f"{len(too_long[0])} bytes")
    array = np.asarray(data)
    if array.nbytes <= MAX_ATTRIBUTE_BYTES:
        node.attrs[name] = data
        return
    parts = [array]
    while any(part.nbytes > MAX_ATTRIBUTE_BYTES for part in parts):
        parts = np.array_split(array, len(parts) + 1)
    for index, part in enumerate(parts):
        node.attrs[f"{name}{index}"] = part
