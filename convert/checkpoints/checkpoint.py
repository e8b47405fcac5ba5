"""Opens checkpoints: files or folders, single or sharded, of any container."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from equipoise.convert.architectures.config import Config, read_json
from equipoise.convert.containers import container_module, container_names
from equipoise.convert.containers.base import Container
from equipoise.convert.core.errors import CheckpointError, ContainerError
from equipoise.convert.core.tensor import TensorRef
from equipoise.convert.files.containment import check_readable
from equipoise.convert.files.identity import FileIdentity
from equipoise.convert.layouts import layout_module

WEIGHT_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "tf_model.h5",
    "flax_model.msgpack",
    "model.ckpt.index",
    "variables/variables.index",
)
"""Weight file names of transformers, in its order of preference."""

_LAYOUT_OF_CONTAINER = {
    "pytorch": "pytorch",
    "keras_hdf5": "tensorflow",
    "tensor_bundle": "tensorflow",
    "flax_msgpack": "flax",
}
_LAYOUT_OF_METADATA = {"pt": "pytorch", "tf": "tensorflow", "flax": "flax", "mlx": "pytorch"}


@dataclass(frozen=True)
class Checkpoint(Mapping[str, TensorRef]):
    """An opened checkpoint: a lazy mapping from names in the files to tensors.

    Attributes:
        path: What was opened.
        container: Module of :mod:`equipoise.convert.containers`.
        variant: Variant of the container, e.g. ``keras`` or ``flat`` in HDF5.
        layout: ``pytorch``, ``tensorflow`` or ``flax`` if the files declare it, else None.
        files: The files, in the order of the index.
        tensors: References by the names in the files.
        config: ``config.json`` next to the files, or None.
        metadata: Metadata of the files.
        left_out: Entries that are not weights -> the reason.
        oddities: Remarks for a person.
        has_separate_config: Whether the caller gave a config that is not next to the weights.
        identities: Every file that holds tensors -> what it was before it was read.
    """

    path: Path
    container: str
    variant: str
    layout: str | None
    files: tuple[Path, ...]
    tensors: Mapping[str, TensorRef]
    config: Config | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    oddities: tuple[str, ...] = ()
    has_separate_config: bool = False
    identities: Mapping[Path, FileIdentity] = field(default_factory=dict)

    def __getitem__(self, name: str) -> TensorRef:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def folder(self) -> Path:
        """The folder of the companion files: that of the config, else that of the weights."""
        if (
            self.config is not None
            and self.config.file is not None
            and not self.has_separate_config
        ):
            return self.config.file.parent
        return self.path if self.path.is_dir() else self.path.parent

    def in_layout(self, layout: str) -> dict[str, TensorRef]:
        """Returns the tensors by their names in a layout.

        Raises:
            CheckpointError: Two names of the file map to one name of the layout.
        """
        decode = layout_module(layout).decode
        found: dict[str, TensorRef] = {}
        for name, ref in self.tensors.items():
            layout_name = decode(name, self.container, self.variant)
            if layout_name in found:
                raise CheckpointError(
                    f"two tensors have the name {layout_name!r} in the layout",
                    file=ref.file,
                    tensor=name,
                    found=found[layout_name].name,
                )
            found[layout_name] = ref
        return found


def open_checkpoint(
    path: str | Path, *, layout: str | None = None, config: str | Path | None = None
) -> Checkpoint:
    """Opens a checkpoint; reads headers only.

    Args:
        path: A folder, a weights file, an index of shards, or the prefix of a TensorFlow checkpoint.
        layout: Takes the weights of this layout where a folder holds several.
        config: A ``config.json`` that is not next to the weights.

    Raises:
        CheckpointError: There are no weights, or files are missing.
        ContainerError: A file is corrupt.
    """
    source = Path(path)
    try:
        entry = _find_entry(source, layout)
        containers = _open_containers(entry)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", file=source) from error
    checkpoint = _join_containers(source, entry, containers, _find_config(source, entry, config))
    return replace(checkpoint, has_separate_config=config is not None)


def _find_config(source: Path, entry: Path, config: str | Path | None) -> Config | None:
    if config is not None:
        return Config.read(Path(config))
    folders = [source] if source.is_dir() else []
    # A SavedModel has its weights in MODEL/saved_model/1/variables and no config there.
    above = 4 if entry.parent.name == "variables" else 1
    folders += list(entry.parents)[:above]
    for folder in folders:
        path = folder / "config.json"
        if os.path.lexists(path):
            check_readable(path, folder)
            return Config.read(path)
    return None


def _find_entry(source: Path, layout: str | None) -> Path:
    """Returns the file to open: weights, or the index of their shards."""
    if not source.is_dir():
        for candidate in (source, Path(f"{source}.index")):
            if candidate.is_file():
                return candidate
        raise CheckpointError("there is no such file or folder", file=source)
    found = [path for name in WEIGHT_FILES if (path := _find_weights(source, name)) is not None]
    found += sorted(set(source.glob("*.ckpt*.index")) - set(found))
    found += sorted(source.glob("saved_model/*/variables/variables.index"), reverse=True)
    if layout is not None:
        implied = {path: _layout_from_file(path) for path in found}
        found = [path for path in found if implied[path] in (layout, None)]
        found.sort(key=lambda path: implied[path] is None)
    if not found:
        description = f" of the layout {layout!r}" if layout else ""
        raise CheckpointError(
            f"no weights{description} in this folder",
            file=source,
            expected="one of " + ", ".join(WEIGHT_FILES) + ", or an index of shards",
            found=", ".join(sorted(path.name for path in source.iterdir())[:12]) or "nothing",
            hint="give the file itself when it has another name",
        )
    check_readable(found[0], source)
    return found[0]


def _find_weights(folder: Path, name: str) -> Path | None:
    for candidate in (folder / name, folder / f"{name}.index.json"):
        if os.path.lexists(candidate):
            return candidate
    return None


def layout_from_filename(name: str) -> str | None:
    """Returns the layout that a file name implies; None for safetensors, which can hold any."""
    for ending, layout in (
        (".bin", "pytorch"),
        (".h5", "tensorflow"),
        (".msgpack", "flax"),
        (".index", "tensorflow"),
    ):
        if name.removesuffix(".index.json").endswith(ending):
            return layout
    return None


def _layout_from_file(path: Path) -> str | None:
    """Returns the layout that a file's name or its safetensors metadata imply; None if neither does."""
    layout = layout_from_filename(path.name)
    if layout is not None:
        return layout
    check_readable(path, path.parent)
    first = _shard_paths(path)[0] if path.name.endswith(".index.json") else path
    return _LAYOUT_OF_METADATA.get(open_container(first).metadata.get("format", ""))


def open_container(path: Path) -> Container:
    """Opens one file with the container that its suffix and first bytes indicate.

    Raises:
        ContainerError: The container is unknown, or the file is corrupt.
    """
    modules: list[Any] = [container_module(name) for name in container_names()]
    modules.sort(key=lambda module: not path.name.endswith(tuple(module.SUFFIXES)))
    found = next((module for module in modules if module.sniff(path)), None)
    is_empty = path.stat().st_size == 0
    if found is None and not is_empty and path.name.endswith(tuple(modules[0].SUFFIXES)):
        found = modules[0]  # its reader says what is wrong with the first bytes
    if found is None:
        raise ContainerError(
            "the file is empty" if is_empty else "unknown container",
            file=path,
            expected="one of " + ", ".join(container_names()),
        )
    identity = FileIdentity.of(path)
    container: Container = found.read(path)
    others = {ref.file for ref in container.tensors.values()} - {path}
    identities = {path: identity, **{other: FileIdentity.of(other) for other in sorted(others)}}
    return replace(container, identities=identities)


def _open_containers(entry: Path) -> list[Container]:
    if not entry.name.endswith(".index.json"):
        return [open_container(entry)]
    return [open_container(path) for path in _shard_paths(entry)]


def _shard_paths(index: Path) -> list[Path]:
    """Returns the files that an index names, each once.

    Raises:
        CheckpointError: It is not an index, or names a file that is missing or outside its folder.
    """
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError("not an index of shards: no weight_map", file=index)
    paths = []
    for name in dict.fromkeys(weight_map.values()):
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
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


def _join_containers(
    source: Path, entry: Path, containers: list[Container], config: Config | None
) -> Checkpoint:
    tensors: dict[str, TensorRef] = {}
    for container in containers:
        for name, ref in container.tensors.items():
            if name in tensors:
                raise CheckpointError(
                    f"{name!r} is in two shards", file=container.path, found=tensors[name].file
                )
            tensors[name] = ref
    if entry.name.endswith(".index.json"):
        _check_index(entry, tensors)
    first = containers[0]
    kinds = {container.format for container in containers}
    if len(kinds) > 1:
        raise CheckpointError(f"shards of different containers: {sorted(kinds)}", file=entry)
    metadata = dict(first.metadata)
    return Checkpoint(
        path=source,
        container=first.format,
        variant=metadata.get("variant", ""),
        layout=_LAYOUT_OF_CONTAINER.get(first.format)
        or _LAYOUT_OF_METADATA.get(metadata.get("format", "")),
        files=tuple(container.path for container in containers),
        tensors=tensors,
        config=config,
        metadata=metadata,
        left_out={k: v for container in containers for k, v in container.left_out.items()},
        oddities=tuple(text for container in containers for text in container.oddities),
        identities={k: v for container in containers for k, v in container.identities.items()},
    )


def _check_index(index: Path, tensors: Mapping[str, TensorRef]) -> None:
    """Checks that every name of the index is in a shard; the two may spell TensorFlow names differently."""
    listed = read_json(index)["weight_map"]
    missing = [name for name in listed if not _possible_names(name) & tensors.keys()]
    if missing:
        raise CheckpointError(
            "the index lists a tensor that no shard has",
            file=index,
            tensor=missing[0],
            found=f"{len(missing)} such names",
        )


def _possible_names(name: str) -> set[str]:
    """Returns the spellings of a name in shards: as it is, without its first component, with dots for slashes."""
    return {name, name.partition("/")[2], name.replace("/", ".")}
