"""Notes on what was taken for what: prefixes, other spellings, ties, and contradictions between config and tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.matching import IGNORED_HEAD, MatchedCheckpoint
from equipoise.convert.core.ops import At, Pad, Unpad
from equipoise.convert.core.row_ops import AddRow
from equipoise.convert.core.tensor import TensorRef
from equipoise.convert.layouts import layout_module
from equipoise.convert.layouts.base import LayoutView

UNPROVEN = "not proven: "
"""How a note begins that says what no code of others has judged."""


def unproven_layouts(source: MatchedCheckpoint, layout: str, view: LayoutView | None) -> list[str]:
    """Returns what no code of others has judged about a conversion to a layout."""
    name = source.expansion.cls.name
    return [
        f"{UNPROVEN}{name} in the layout {one}: {found.unproven}"
        for one, found in ((source.match.layout, source.match.view), (layout, view))
        if found is not None and found.unproven
    ]


def notes_on_classes(source: MatchedCheckpoint, layout: str, view: LayoutView) -> Iterator[str]:
    """Yields notes on classes of transformers that are known to compute other outputs than PyTorch's."""
    cls = source.expansion.cls
    for one, found in ((source.match.layout, source.match.view), (layout, view)):
        if found.known_difference:
            name = cls.names.get(one, cls.name)
            yield f"{name} computes other outputs than PyTorch from the same weights: {found.known_difference}"


def notes_on_groups(view: LayoutView, container: str) -> Iterator[str]:
    """Yields a note on variables that Keras HDF5 cannot load because they belong to no layer."""
    bare = [name for name, group in view.groups.items() if not group]
    if bare and container == "keras_hdf5":
        yield (
            f"{', '.join(bare)} belongs to no layer; TensorFlow's HDF5 loader never reads such weights, "
            "--to tensorflow-safetensors keeps them"
        )


def notes_on_match(source: MatchedCheckpoint, target: LayoutView) -> Iterator[str]:
    """Yields the notes on a checkpoint, the class that its tensors belong to, and what the target stores otherwise."""
    yield from _notes_on_names(source)
    yield from _notes_on_source(source)
    yield from source.match.notes
    for rule in source.match.view.rules:
        rows = sum(op.count for op in rule.ops if isinstance(op, Pad))
        if rows and rule.targets[0] in source.match.stored:
            name = source.ref(rule.targets[0]).name
            yield f"the last {rows} rows of {name} fill up the vocabulary and are left out"
    yield from _notes_on_target(source, target)
    heads = [name for name, why in source.match.ignored.items() if why == IGNORED_HEAD]
    if heads:
        names = ", ".join(source.refs[name].name for name in heads[:4])
        yield f"{len(heads)} tensors are left out, {IGNORED_HEAD}: {names}"


def _notes_on_target(source: MatchedCheckpoint, view: LayoutView) -> Iterator[str]:
    """Yields a note on each tensor that the target stores without some rows, or added to another."""
    for rule in view.rules:
        name = source.stored_name(rule.sources[0])
        if name is None:
            continue
        for op in (one.op if isinstance(one, At) else one for one in rule.ops):
            if isinstance(op, Unpad):
                end = "first" if op.first else "last"
                yield f"the {end} {op.count} rows of {name}, which no token uses, are left out"
            elif isinstance(op, AddRow):
                added = source.stored_name(rule.sources[1])
                yield f"{added or 'a row of zeros'} is added to every row of {name}"


def notes_on_wrappers(
    checkpoint: Checkpoint, refs: Mapping[str, TensorRef], layout: str
) -> Iterator[str]:
    """Yields a note on prefixes of wrappers (``module.``, ``_orig_mod.``) that the layout's names lack.

    Args:
        checkpoint: The checkpoint.
        refs: Its tensors by their names in the layout.
        layout: The layout.
    """
    if layout != "pytorch":
        return
    decode = layout_module(layout).decode
    wrapped = [
        ref.name
        for ref in refs.values()
        if (bare := ref.name.removeprefix(checkpoint.prefix)) != decode(bare, "pytorch", "")
    ]
    if wrapped:
        yield f"the prefix of a wrapper is removed from {len(wrapped)} names: {wrapped[0]!r}"


def _notes_on_names(source: MatchedCheckpoint) -> Iterator[str]:
    """Yields notes on names that are not the class's own although their meaning is clear."""
    stored = source.match.stored
    other = [(name, own) for own, name in stored.items() if name != own]
    if other:
        name, own = other[0]
        yield f"{len(other)} names are spelled differently: {name!r} is taken for {own!r}"
    yield from notes_on_wrappers(source.checkpoint, source.refs, source.match.layout)
    for name in source.match.view.shared.values():
        origin = source.origin(name)
        if origin in source.match.view.shared and origin is not None:
            yield f"{name!r} is stored under the name of {origin!r}, which is tied to it"
            break


def _notes_on_source(source: MatchedCheckpoint) -> Iterator[str]:
    """Yields notes where the files or the config contradict the tensors."""
    declared, found = source.checkpoint.layout, source.match.layout
    if declared is not None and declared != found:
        yield f"the file says its layout is {declared}; its names are {found}'s"
    config = source.checkpoint.config
    named = config.architectures if config else ()
    cls = source.expansion.cls
    if named and source.expansion.spec.class_by_name(named[0]) != cls:
        yield f"the config names {named[0]}; the tensors are those of {cls.name}"
