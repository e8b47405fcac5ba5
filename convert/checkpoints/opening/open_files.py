"""Opens the files of a checkpoint: one container each, the shards of an index in its order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from equipoise.convert.containers import container_module, container_names
from equipoise.convert.containers.base import Container
from equipoise.convert.core.errors import CheckpointError, ContainerError
from equipoise.convert.core.json_values import is_plain_file_name, read_json
from equipoise.convert.files.containment import check_readable
from equipoise.convert.files.identity import FileIdentity
from equipoise.convert.folders.file_kinds import check_file
from equipoise.convert.folders.found_files import WeightFiles
from equipoise.convert.folders.shard_index import is_shard_index
from equipoise.convert.folders.weight_files import KINDRED, layout_from_filename
from equipoise.convert.layouts import plugin_of_metadata
from equipoise.convert.research.marks import marked_specs, t5x_layout

LAYOUT_OF_METADATA = {
    "pt": "pytorch", "tf": "tensorflow", "flax": "flax", "mlx": "pytorch", "google": "google",
    "t5x": "t5x", "t5x-scanned": "t5x-scanned",
}  # fmt: skip
"""``format`` in the metadata of a safetensors file -> the layout of its names."""

_LAYOUT_OF_CONTAINER = {
    "pytorch": "pytorch",
    "distributed_checkpoint": "pytorch",
    "deepspeed_zero": "pytorch",
    "keras_hdf5": "tensorflow",
    "tensor_bundle": "tensorflow",
    "flax_msgpack": "flax",
    "orbax": "flax",
    "t5x_checkpoint": "flax",
}
"""Container -> its layout; variables of a TensorFlow checkpoint may have the names of Google's code too."""

INDEX_SHAPE = {"weight_map": {str: str}}
"""The shape of an index of shards."""


def layout_from_file(path: Path) -> str | None:
    """Returns the layout that a file's name or its safetensors metadata imply; None if neither does."""
    layout = layout_from_filename(path.name)
    if layout is not None and layout not in KINDRED:
        return layout
    check_readable(path, path.parent)
    first = _shard_paths(path)[0] if is_shard_index(path) else path
    return layout_of(open_container(first))


def layout_of(container: Container) -> str | None:
    """Returns the layout that a container, its metadata or the names of its variables imply; None if nothing does."""
    if container.metadata.get("variant") == "name-based" and marked_specs(container.tensors):
        return "google"
    if _LAYOUT_OF_CONTAINER.get(container.format) == "flax" and (
        layout := t5x_layout(container.tensors)
    ):
        return layout
    declared = container.metadata.get("format", "")
    found = _LAYOUT_OF_CONTAINER.get(container.format) or LAYOUT_OF_METADATA.get(declared)
    return found or (plugin_of_metadata(declared) if declared else None)


def open_container(path: Path) -> Container:
    """Opens one file with the container that its suffix and first bytes indicate.

    Raises:
        ContainerError: The container is unknown, or the file is corrupt.
    """
    modules: list[Any] = [container_module(name) for name in container_names()]
    modules.sort(key=lambda module: -_matching_length(path.name, module.SUFFIXES))
    found = next((module for module in modules if module.sniff(path)), None)
    if found is None:
        check_file(path)
    if found is None and path.name.endswith(tuple(modules[0].SUFFIXES)):
        found = modules[0]  # its reader says what is wrong with the first bytes
    if found is None:
        raise ContainerError(
            "unknown container",
            file=path,
            expected="one of " + ", ".join(container_names()),
        )
    identity = FileIdentity.of(path)
    container: Container = found.read(path)
    others = {*container.files, *(ref.file for ref in container.tensors.values())} - {path}
    identities = {path: identity, **{other: FileIdentity.of(other) for other in sorted(others)}}
    return replace(container, identities=identities)


def _matching_length(name: str, suffixes: Sequence[str]) -> int:
    """Returns the length of the longest suffix that a file's name ends with, or 0: a longer one says more."""
    return max((len(one) for one in suffixes if name.endswith(one)), default=0)


def open_containers(found: WeightFiles) -> list[Container]:
    """Opens the files of a checkpoint, or the shards that its index names."""
    paths = _shard_paths(found.entry) if is_shard_index(found.entry) else found.files
    return [open_container(path) for path in paths]


def _shard_paths(index: Path) -> list[Path]:
    """Returns the files that an index names, each once.

    Raises:
        CheckpointError: It is not an index, or names a file that is missing or outside its folder.
    """
    weight_map = read_json(index, INDEX_SHAPE)["weight_map"]
    if not weight_map:
        raise CheckpointError("not an index of shards: the weight_map is empty", file=index)
    paths = []
    for name in dict.fromkeys(weight_map.values()):
        if not is_plain_file_name(name):
            raise CheckpointError(
                "the index names a file outside its folder", file=index, found=repr(name)
            )
        path = index.parent / name
        if not os.path.lexists(path):
            raise CheckpointError(
                f"the shard {name!r} is missing",
                file=index,
                expected=f"{len(set(weight_map.values()))} shards next to the index",
                hint="download the checkpoint again",
            )
        check_readable(path, index.parent)
        paths.append(path)
    return paths
