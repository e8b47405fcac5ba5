"""Opens checkpoints: files or folders, single or sharded, of any container."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from equipoise.convert.adapters.merge import WEIGHT_NAMES
from equipoise.convert.adapters.merge import merge_adapter as merge_into
from equipoise.convert.adapters.settings import CONFIG_NAME, read_settings
from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.opening.find_config import config_of_subtree, find_config
from equipoise.convert.checkpoints.opening.open_files import (
    INDEX_SHAPE,
    layout_from_file,
    layout_of,
    open_container,
    open_containers,
)
from equipoise.convert.checkpoints.opening.weight_map import (
    FileContent,
    WeightMap,
    choose_weight_map,
    find_weight_map,
)
from equipoise.convert.containers.base import Container
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.json_values import read_json
from equipoise.convert.core.tensor import TensorRef
from equipoise.convert.files.containment import check_readable
from equipoise.convert.folders.found_files import WeightFiles
from equipoise.convert.folders.recognition import (
    check_nothing_beside_weights,
    folder_below,
    notes_on_modules,
    refuse_folder,
)
from equipoise.convert.folders.shard_index import is_shard_index
from equipoise.convert.folders.weight_files import WEIGHT_FILES, find_weight_files
from equipoise.convert.quantized.dequantize import dequantize as dequantize_tensors
from equipoise.convert.research.marks import marked_specs

_STATISTICS = ("/moving_mean", "/moving_variance")
"""Variables that are averages themselves."""


def open_checkpoint(
    path: str | Path,
    *,
    layout: str | None = None,
    config: str | Path | None = None,
    subtree: str | None = None,
    variant: str | None = None,
    dequantize: bool = False,
    merge_adapter: str | Path | None = None,
) -> Checkpoint:
    """Opens a checkpoint; reads headers only.

    Args:
        path: A folder, a weights file, an index of shards, or the prefix of a TensorFlow checkpoint.
        layout: Takes the weights of this layout where a folder holds several.
        config: A ``config.json`` that is not next to the weights.
        subtree: What the names of the weights begin with, where a file holds several models or other tensors beside.
        variant: Takes the weights of this variant, e.g. ``fp16`` for ``model.fp16.safetensors``.
        dequantize: Computes plain weights from quantized ones where they are read.
        merge_adapter: A folder with a LoRA adapter of PEFT, which is merged into the weights where they are read.

    Raises:
        CheckpointError: There are no weights, several and no sign which is meant, or files are missing.
        ContainerError: A file is corrupt.
        InputError: No tensor lies under ``subtree``.
    """
    source = Path(path)
    try:
        source, found = _find_files(source, layout, variant, refuse_additions=merge_adapter is None)
        containers = open_containers(found)
        checkpoint = _join_containers(source, found, containers)
        checkpoint = _with_averages(checkpoint, containers)
        weights = _find_weights(checkpoint, containers, subtree)
        settings = config_of_subtree(find_config(source, found.entry, config), subtree)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", file=source) from error
    choices = {"subtree": subtree, "variant": variant}
    checkpoint = replace(
        checkpoint,
        config=settings,
        has_separate_config=config is not None,
        choices={name: value for name, value in choices.items() if value is not None},
    )
    checkpoint = _keep_weights(checkpoint, weights, chosen=subtree is not None)
    if dequantize:
        checkpoint = _dequantized(checkpoint)
    return checkpoint if merge_adapter is None else _with_adapter(checkpoint, Path(merge_adapter))


def _with_averages(checkpoint: Checkpoint, containers: list[Container]) -> Checkpoint:
    """Returns the checkpoint with moving averages for weights, where those who trained such models publish and evaluate these."""
    if checkpoint.layout != "google" or not any(one.averages for one in containers):
        return checkpoint
    scopes = [
        scope
        for spec in marked_specs(checkpoint)
        for scope in spec.layouts["google"].get("averages", ())
    ]
    averages = {
        name: ref
        for one in containers
        for name, ref in one.averages.items()
        if name.startswith(tuple(scopes)) and not name.endswith(_STATISTICS)
    }
    if not averages:
        return checkpoint
    taken = [averages.get(name, ref) for name, ref in checkpoint.tensors.items()]
    tensors = {ref.name: ref for ref in taken}
    left_out = {name: why for name, why in checkpoint.left_out.items() if name not in tensors}
    left = dict.fromkeys(averages, "its moving average is taken")
    note = (
        f"{len(averages)} moving averages are taken for their variables, as in the published models"
    )
    return replace(
        checkpoint,
        tensors=tensors,
        left_out={**left_out, **left},
        oddities=(*checkpoint.oddities, note),
    )


def _dequantized(checkpoint: Checkpoint) -> Checkpoint:
    tensors, note = dequantize_tensors(
        checkpoint.tensors, checkpoint.config, checkpoint.quantization, checkpoint.path
    )
    config = checkpoint.config
    return replace(
        checkpoint,
        tensors=tensors,
        config=None if config is None else config.without("quantization_config"),
        oddities=(*checkpoint.oddities, note),
        choices={**checkpoint.choices, "dequantize": True},
        is_standard=False,
    )


def _with_adapter(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """Returns the checkpoint with an adapter merged into its weights.

    Raises:
        CheckpointError: The adapter is of another base or kind, or the base is not in PyTorch's layout.
    """
    settings = read_settings(folder)
    if checkpoint.layout not in (None, "pytorch"):
        raise CheckpointError(
            "an adapter is merged into weights in PyTorch's layout",
            file=checkpoint.path,
            found=checkpoint.layout,
            hint="convert the base to pytorch first",
        )
    path = next((folder / name for name in WEIGHT_NAMES if os.path.lexists(folder / name)), None)
    if path is None:
        raise CheckpointError(
            "the adapter has no weights", file=folder, expected=" or ".join(WEIGHT_NAMES)
        )
    check_readable(path, folder)
    adapter = open_container(path)
    tensors, note = merge_into(checkpoint.tensors, adapter.tensors, settings, folder)
    return replace(
        checkpoint,
        tensors=tensors,
        files=(*checkpoint.files, path, folder / CONFIG_NAME),
        identities={**checkpoint.identities, **adapter.identities},
        oddities=(*checkpoint.oddities, note),
        choices={**checkpoint.choices, "merge_adapter": str(folder)},
        is_standard=False,
    )


def _find_files(
    source: Path, layout: str | None, variant: str | None, *, refuse_additions: bool
) -> tuple[Path, WeightFiles]:
    """Returns the folder or file that is read, which may lie below the source, and the files in it.

    Args:
        source: The path that was given.
        layout: The layout that was asked for, or None.
        variant: The variant that was asked for, or None.
        refuse_additions: Whether to refuse what changes a model beside its weights, e.g. an adapter.
    """
    if not source.is_dir():
        for candidate in (source, Path(f"{source}.index")):
            if candidate.is_file():
                return source, WeightFiles((candidate,), is_standard=False)
        if source.exists():
            raise CheckpointError("it is neither a regular file nor a folder", file=source)
        raise CheckpointError("there is no such file or folder", file=source)
    if refuse_additions:
        check_nothing_beside_weights(source)
    found = find_weight_files(source, layout, variant, layout_from_file)
    if found is not None:
        for file in found.files:
            check_readable(file, source)
        return source, replace(found, notes=(*found.notes, *notes_on_modules(source)))
    below = folder_below(source)
    if below is None:
        raise refuse_folder(
            source, layout, "one of " + ", ".join(WEIGHT_FILES) + ", or an index of shards"
        )
    folder, note = below
    folder, found = _find_files(folder, layout, variant, refuse_additions=refuse_additions)
    return folder, replace(
        found, notes=(note, *found.notes, *notes_on_modules(source)), is_standard=False
    )


def _find_weights(
    checkpoint: Checkpoint, containers: list[Container], subtree: str | None
) -> WeightMap:
    if subtree is not None:
        return choose_weight_map(checkpoint.tensors, "./", checkpoint.files[0], subtree)
    first = containers[0]
    maps = first.maps if len(containers) == 1 else frozenset()
    content = FileContent(first.path, first.format, checkpoint.tensors, maps)
    return find_weight_map(content)


def _keep_weights(checkpoint: Checkpoint, weights: WeightMap, *, chosen: bool) -> Checkpoint:
    """Returns the checkpoint with the tensors of the weights alone; the others are left out for their reasons."""
    if not weights.prefix and not weights.left_out:
        return checkpoint
    tensors = {k: v for k, v in checkpoint.tensors.items() if k not in weights.left_out}
    others = len(weights.left_out)
    note = f"the weights lie under {weights.prefix[:-1]!r}" if weights.prefix else ""
    if others:
        note += f"{'; ' if note else ''}{others} tensors beside them are left out"
    return replace(
        checkpoint,
        tensors=tensors,
        prefix=weights.prefix,
        left_out={**checkpoint.left_out, **weights.left_out},
        oddities=(*checkpoint.oddities, note + (" (--subtree)" if chosen else "")),
        is_standard=False,
    )


def _join_containers(source: Path, found: WeightFiles, containers: list[Container]) -> Checkpoint:
    entry = found.entry
    tensors: dict[str, TensorRef] = {}
    for container in containers:
        for name, ref in container.tensors.items():
            if name in tensors:
                raise CheckpointError(
                    f"{name!r} is in two shards", file=container.path, found=tensors[name].file
                )
            tensors[name] = ref
    if is_shard_index(entry):
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
        layout=layout_of(first),
        files=tuple(
            path for container in containers for path in (container.path, *container.files)
        ),
        tensors=tensors,
        metadata=metadata,
        left_out={k: v for container in containers for k, v in container.left_out.items()},
        oddities=(
            *found.notes,
            *(text for container in containers for text in container.oddities),
        ),
        is_standard=found.is_standard,
        identities={k: v for container in containers for k, v in container.identities.items()},
    )


def _check_index(index: Path, tensors: Mapping[str, TensorRef]) -> None:
    """Checks that every name of the index is in a shard; the two may spell TensorFlow names differently."""
    listed = read_json(index, INDEX_SHAPE)["weight_map"]
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
