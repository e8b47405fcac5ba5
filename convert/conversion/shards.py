"""Distributes the tensors over the files of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from equipoise.convert.conversion.plan_types import Shard, Step
from equipoise.convert.core.tensor import TensorHeader
from equipoise.convert.layouts import layout_module
from equipoise.convert.layouts.base import Format, LayoutView


def group_aliases(steps: Sequence[Step], view: LayoutView) -> list[TensorHeader]:
    """Returns aliases for variables that a Keras HDF5 file lists under a second layer too."""
    written = {
        name: header
        for step in steps
        for name, header in zip(step.outputs, step.targets, strict=True)
    }
    return [
        replace(written[name], group=group, alias_of=written[name].name)
        for group, names in view.also_in.items()
        for name in names
        if name in written and written[name].group != group
    ]


def split_shards(
    steps: Sequence[Step],
    aliases: Sequence[TensorHeader],
    target_format: Format,
    view: LayoutView | None,
    limit: int,
) -> tuple[Shard, ...]:
    """Distributes steps over files of at most ``limit`` bytes; a larger step gets its own file."""
    steps, further = _take_further_files(steps, target_format)
    groups: list[list[Step]] = [[]]
    size = 0
    for step in steps:
        nbytes = sum(header.nbytes for header in step.targets)
        if groups[-1] and size + nbytes > limit and target_format.splits:
            groups.append([])
            size = 0
        groups[-1].append(step)
        size += nbytes
    if len(groups) == 1:
        variant = "keras" if target_format.container == "keras_hdf5" else ""
        return (Shard(target_format.filename, tuple(steps), tuple(aliases), variant), *further)
    stem, _, suffix = target_format.filename.rpartition(".")
    names = [f"{stem}-{i + 1:05d}-of-{len(groups):05d}.{suffix}" for i in range(len(groups))]
    shards = (
        _make_shard(name, group, aliases, target_format, view)
        for name, group in zip(names, groups, strict=True)
    )
    return (*shards, *further)


def _take_further_files(
    steps: Sequence[Step], target_format: Format
) -> tuple[list[Step], list[Shard]]:
    """Returns the steps of the format's first file, and its other files: by what the names of their tensors begin with."""
    rest, shards = list(steps), []
    for start, filename in target_format.further_files.items():
        found = [step for step in rest if step.targets[0].name.startswith(start)]
        rest = [step for step in rest if not step.targets[0].name.startswith(start)]
        shards += [Shard(filename, tuple(found), ())] if found else []
    return rest, shards


def _make_shard(
    filename: str,
    steps: Sequence[Step],
    aliases: Sequence[TensorHeader],
    target_format: Format,
    view: LayoutView | None,
) -> Shard:
    """Returns one of several files; sharded Keras HDF5 files have no groups and no aliases."""
    if target_format.container != "keras_hdf5":
        here = {header.name for step in steps for header in step.targets}
        return Shard(filename, tuple(steps), tuple(one for one in aliases if one.alias_of in here))
    encode = layout_module("tensorflow").encode
    flat = [
        replace(
            step,
            targets=tuple(
                replace(header, name=encode(name, target_format.container, "flat", view), group="")
                for name, header in zip(step.outputs, step.targets, strict=True)
            ),
        )
        for step in steps
    ]
    return Shard(filename, tuple(flat), (), "flat")
