"""Keras HDF5: ``tf_model.h5`` as TensorFlow's Keras 2 writes it, whole or in transformers' shards.

Variant ``keras``: the root lists its layers (``layer_names``), each layer is a group that lists its weights
(``weight_names``), and a weight is stored at ``<layer>/<full variable name>``. Tensors have the names of
the variables. A variable of two layers is stored in both groups under one name: it is one tensor here, and reading
checks that the copies are equal. Variant ``flat`` (shards): the datasets are at the root, under the names in
``layer_names``.

Metadata: ``variant``, ``backend``, ``keras_version`` and, for ``keras``, ``groups``: JSON of every layer in
order with its weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from h5py import h5d, h5f, h5g

from equipoise.convert.containers._hdf5.attributes import TextAttributes
from equipoise.convert.containers._hdf5.datasets import (
    STORABLE_DTYPES,
    StoredDataset,
    check_dataset,
    check_no_overlap,
    list_datasets,
    object_address,
    open_file,
    open_object,
    translate_read_errors,
)
from equipoise.convert.containers._hdf5.writer import TOP_LEVEL_GROUP, Writer
from equipoise.convert.containers._shared.checks import check_name
from equipoise.convert.containers.base import Container
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import TensorRef

__all__ = ["CAN_SHARE_TENSORS", "SUFFIXES", "WRITABLE_DTYPES", "Writer", "read", "sniff"]

SUFFIXES = (".h5", ".hdf5")
CAN_SHARE_TENSORS = True
WRITABLE_DTYPES = frozenset({*STORABLE_DTYPES, "bfloat16"})
"""Names of the dtypes that can be written; Keras cannot read the bfloat16 that it writes itself."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MODEL_WEIGHTS = "model_weights"
"""Group in which ``Model.save`` stores what ``Model.save_weights`` stores at the root."""


def sniff(path: Path) -> bool:
    """Whether HDF5's signature is at the start, or after a user block."""
    with open(path, "rb", buffering=0) as file:
        for start in (0, 512, 1024, 2048, 4096):
            file.seek(start)
            if file.read(8) == _SIGNATURE:
                return True
    return False


def read(path: Path) -> Container:
    """Reads the lists of layers and weights, and the location of each weight.

    Raises:
        ContainerError: The file is not a Keras weights file, or a weight is not entirely inside it.
        UnsupportedDtypeError: A weight's type is not supported.
    """
    with open_file(path) as file, _open_attributes(path, file) as texts:
        root, prefix = _find_root(file, texts, path)
        names = _read_unique_names(root, "layer_names", texts, path)
        layers = _layers(root, names, texts, path)
        variant = {"variant": "flat" if layers is None else "keras"}
        metadata = {**variant, **_keras_metadata(root, texts, path)}
        if layers is None:
            listed = [(name, name) for name in names]
        else:
            metadata["groups"] = json.dumps(layers)
            listed = [(f"{layer}/{name}", name) for layer in layers for name in layers[layer]]
        copies: dict[str, list[StoredDataset]] = {}
        for location, name in listed:
            copies.setdefault(name, []).append(_open_weight(root, location, name, prefix, path))
        every = [location for locations in copies.values() for location in locations]
        known = {location.address for location in every}
        unlisted = [name for name, at in list_datasets(file, path) if at not in known]
    check_no_overlap(every, path)
    refs = {name: _tensor_ref(name, locations) for name, locations in copies.items()}
    left_out = dict.fromkeys(unlisted, "no layer lists it as a weight")
    return Container("keras_hdf5", path, refs, metadata, left_out, tuple(_oddities(copies)))


def _open_attributes(path: Path, file: h5f.FileID) -> TextAttributes:
    with translate_read_errors(path):
        return TextAttributes(path, file)


def _layers(
    root: Any, names: list[str], texts: TextAttributes, path: Path
) -> dict[str, list[str]] | None:
    """Returns layer -> weights, or None if the root lists weights instead of layers."""
    kinds = {type(open_object(root, name, path)) for name in names}
    if kinds - {h5g.GroupID, h5d.DatasetID} or len(kinds) > 1:
        raise ContainerError("layers and weights are mixed in layer_names", file=path)
    with translate_read_errors(path):
        has_top = TOP_LEVEL_GROUP.encode() in root
    if kinds == {h5d.DatasetID} or not (kinds or has_top):
        return None
    return _layer_weights(root, [*names, TOP_LEVEL_GROUP] if has_top else names, texts, path)


def _find_root(file: h5f.FileID, texts: TextAttributes, path: Path) -> tuple[h5g.GroupID, str]:
    """Returns the group that lists the layers, and its path with a trailing slash."""
    with translate_read_errors(path):
        root = h5g.open(file, b"/")
        whole_model = _MODEL_WEIGHTS.encode() in root
    if _read_names(root, "layer_names", texts, path) is not None:
        return root, ""
    if whole_model:
        group = open_object(root, _MODEL_WEIGHTS, path)
        if isinstance(group, h5g.GroupID):
            return group, _MODEL_WEIGHTS + "/"
    raise ContainerError(
        "no attribute 'layer_names': HDF5, but not weights of Keras 2",
        file=path,
        hint="the file is of another program, or of Keras 3: then its name must end with .weights.h5",
    )


def _read_names(node: Any, name: str, texts: TextAttributes, path: Path) -> list[str] | None:
    """Reads a list attribute, whole or in the numbered parts of long lists."""
    at = object_address(node, path)
    whole = texts.read_texts(at, name)
    if whole is not None:
        return whole
    parts: list[str] = []
    index = 0
    while (part := texts.read_texts(at, f"{name}{index}")) is not None:
        parts += part
        index += 1
    return parts if index else None


def _read_unique_names(node: Any, name: str, texts: TextAttributes, path: Path) -> list[str]:
    """Reads a list attribute that must exist and have unique entries."""
    names = _read_names(node, name, texts, path)
    if names is None or len(set(names)) != len(names):
        problem = "is missing" if names is None else "has duplicates"
        raise ContainerError(f"the attribute {name!r} {problem}", file=path)
    return [check_name(entry, path) for entry in names]


def _keras_metadata(root: Any, texts: TextAttributes, path: Path) -> dict[str, str]:
    at = object_address(root, path)
    found = {name: texts.read_texts(at, name) for name in ("keras_version", "backend")}
    return {name: values[0] for name, values in found.items() if values}


def _layer_weights(
    root: Any, layers: list[str], texts: TextAttributes, path: Path
) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for layer in layers:
        node = open_object(root, layer, path)
        if not isinstance(node, h5g.GroupID):
            raise ContainerError("a layer is not a group", file=path, tensor=layer)
        groups[layer] = _read_unique_names(node, "weight_names", texts, path)
    return groups


def _open_weight(root: Any, location: str, name: str, prefix: str, path: Path) -> StoredDataset:
    found = check_dataset(open_object(root, location, path), name, path)
    return replace(found, path=prefix + location)


def _tensor_ref(name: str, copies: list[StoredDataset]) -> TensorRef:
    first = copies[0]
    others = [copy for copy in copies[1:] if copy.address != first.address]
    for other in others:
        if (other.dtype, other.shape) != (first.dtype, first.shape):
            raise ContainerError(
                "two layers store different tensors under one name",
                file=first.file,
                tensor=name,
                expected=f"{first.dtype} {list(first.shape)} as in {first.path!r}",
                found=f"{other.dtype} {list(other.shape)} in {other.path!r}",
            )
    identity = ("hdf5", str(first.file), first.address)
    straight = first.extent if not others else None

    def load() -> Array:
        return _read_equal_copies(name, first, others)

    return TensorRef(name, first.dtype, first.shape, first.file, straight, load, identity=identity)


def _read_equal_copies(name: str, first: StoredDataset, others: list[StoredDataset]) -> Array:
    """Reads the tensor and checks that all copies have equal bytes."""
    values = first.read()
    for other in others:
        if not np.array_equal(_bytes(values), _bytes(other.read())):
            raise ContainerError(
                "two layers store different values under one name",
                file=first.file,
                tensor=name,
                expected=f"the values in {first.path!r}",
                found=f"others in {other.path!r}",
            )
    return values


def _bytes(values: Array) -> Array:
    return values.reshape(-1).view(np.uint8)


def _oddities(locations: dict[str, list[StoredDataset]]) -> Iterator[str]:
    twice = sum(len({copy.address for copy in copies}) > 1 for copies in locations.values())
    if twice:
        yield f"{twice} variables are stored in more than one layer; the copies must be equal"
    opaque = sum(copies[0].dtype.name == "bfloat16" for copies in locations.values())
    if opaque:
        yield f"{opaque} weights are two opaque bytes an element, which Keras uses for bfloat16"
