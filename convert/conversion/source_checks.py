"""Checks the tensors of a source against its class: unknown, missing and wrongly shaped ones, and what explains many at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from equipoise.convert.architectures.expand import Expansion, expand
from equipoise.convert.architectures.spec import ClassSpec
from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.matching import (
    ClassMatch,
    MatchedCheckpoint,
    check_config,
    match_class,
    stored_shapes,
)
from equipoise.convert.conversion.coverage import CoverageLedger
from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.tensor import TensorRef, is_floating
from equipoise.convert.files.file_names import TASK_PREFIX
from equipoise.convert.folders.keras_task import read_task
from equipoise.convert.folders.quantization import dequantization_advice
from equipoise.convert.folders.weight_files import shard_count
from equipoise.convert.layouts import COMPLETE_LAYOUTS, is_plugin, may_hold_any_class

_GOOGLE_NAMES = re.compile(r"(^|/)(layer_\d+|block_\d+|group_\d+|inner_group_\d+)/")
"""Layers as BERT, ALBERT, ELECTRA and T5 name them in TensorFlow 1; Keras' names have ``layer_._0``."""

Misfits = Sequence[tuple[TensorRef, Shape]]
"""Tensors whose shape is not the one that the config says, each with that shape."""


def check_has_tensors(checkpoint: Checkpoint) -> None:
    """Checks that a checkpoint holds something to convert.

    Raises:
        CheckpointError: It holds no tensors.
    """
    if not checkpoint.tensors:
        raise CheckpointError(
            "it holds no tensors",
            file=checkpoint.path,
            hint="download or save the weights again" if not checkpoint.left_out else None,
        )


def check_source(source: MatchedCheckpoint, layout: str, ledger: CoverageLedger) -> None:
    """Records a problem for every tensor of the source that the class does not have so; one cause in place of many.

    Args:
        source: The source.
        layout: The target's layout.
        ledger: Receives the problems.
    """
    misfits = source.misfits()
    cause = (
        _quantized(source)
        or adapter_cause(source.checkpoint)
        or empty_tensors_cause(source.refs.values())
        or _names_of_google(source)
        or _one_shard(source)
        or replicated_cause(misfits, len(source.match.stored))
        or _pruned(source, misfits, layout)
    )
    if cause:
        ledger.add_problem(cause)
        return
    _check_names(source, ledger)
    _check_shapes(misfits, ledger)


def adapter_cause(names: Iterable[str]) -> str:
    """Returns the cause where the tensors are those of a model with an adapter of PEFT in it, or of the adapter alone."""
    parts = [name for name in names if ".lora_A." in name or ".lora_B." in name]
    if not parts:
        return ""
    return (
        f"{len(parts)} tensors are those of a PEFT adapter (e.g. {parts[0]!r}): merge it into its base with peft's "
        "merge_and_unload() and save_pretrained(), or give the base, with --merge-adapter FOLDER for a folder with "
        "adapter_config.json"
    )


def _quantized(source: MatchedCheckpoint) -> str:
    """Returns the cause where the weights are quantized: numbers that need their scales to mean anything."""
    method = source.checkpoint.quantization
    coded = any(
        not is_floating(source.ref(name).dtype) or source.ref(name).dtype.itemsize == 1
        for rule in source.match.view.rules
        for name in rule.targets
        if name in source.match.stored
        and all(source.expansion.parameters[one].dtype is None for one in rule.sources)
    )
    if method is None or (source.match.fits and not coded):
        return ""
    return f"the weights are quantized with {method}: {dequantization_advice(method)}"


def empty_tensors_cause(refs: Iterable[TensorRef]) -> str:
    """Returns the cause where the floating-point tensors have no elements, as ZeRO-3 leaves them; empty if they have."""
    floats = [ref for ref in refs if is_floating(ref.dtype)]
    empty = [ref for ref in floats if ref.size == 0]
    if not empty or 2 * len(empty) < len(floats):
        return ""
    return (
        f"{len(empty)} tensors are empty, e.g. {empty[0].name!r} {list(empty[0].shape)}: saved by DeepSpeed ZeRO-3 or FSDP "
        "without gathering the weights; run zero_to_fp32.py of that checkpoint, or save again with "
        "stage3_gather_16bit_weights_on_model_save"
    )


def _names_of_google(source: MatchedCheckpoint) -> str:
    """Returns the cause where the tensors are named as Google's code does it, and the architecture has no such names."""
    names = [name for name in source.match.unknown if _GOOGLE_NAMES.search(name)]
    if not names or source.match.layout == "google":
        return ""
    return (
        f"{len(names)} tensors are named in the manner of Google's code (e.g. {names[0]!r}), and these are not its names of "
        f"{source.expansion.spec.model_type}: give the right architecture, or one of your own with a section [google] "
        "(docs/architecture-files.md), with --architecture"
    )


def _one_shard(source: MatchedCheckpoint) -> str:
    """Returns the cause where tensors are missing because one shard of several was given."""
    (file, *others) = source.checkpoint.files
    count = shard_count(file)
    if others or count in (None, 1) or not source.match.missing:
        return ""
    return f"{file.name} is one of {count} shards: give the folder {file.parent}, or the index of the shards"


def replicated_cause(misfits: Misfits, stored: int) -> str:
    """Returns the cause where every tensor has one more axis in front, of the same size: one copy for each device."""
    leading = {ref.shape[0] for ref, expected in misfits if ref.shape[1:] == expected and ref.shape}
    if len(leading) != 1 or len(misfits) != stored:
        return ""
    (devices,) = leading
    return (
        f"every tensor has a leading axis of {devices}: the parameters are replicated over devices; save "
        "flax.jax_utils.unreplicate(params)"
    )


def _pruned(source: MatchedCheckpoint, misfits: Misfits, layout: str) -> str:
    """Returns the cause where attention heads are pruned, which no other layout can hold."""
    pruned = source.expansion.config.values.get("pruned_heads")
    if not pruned or not misfits or layout == source.match.layout:
        return ""
    return (
        f"attention heads are pruned (config: pruned_heads of {len(pruned)} layers): the classes of {layout} cannot have "
        "layers of unequal size; convert the model before heads are pruned"
    )


def _check_names(source: MatchedCheckpoint, ledger: CoverageLedger) -> None:
    owners = _classes_that_know(source)
    cls = source.expansion.cls.name
    subtree = f"{source.checkpoint.prefix}{source.match.prefix}".rstrip("./")
    other = "name the right class with --architecture"
    if source.match.prefix:
        other = f"take what lies under {subtree!r} alone with --subtree {subtree}"
    for name in source.match.unknown:
        stored, owner = source.refs[name].name, owners.get(name, "")
        if (task := _task_of_head(source, stored)) is not None:
            ledger.refuse(
                stored, f"no class of transformers here has the head of KerasHub's {task}"
            )
        elif not ledger.record_allowed_loss(stored):
            ledger.add_problem(
                f"{stored!r} is unknown to {cls}{owner}: leave it out with --allow '{stored}=REASON', or {other}",
                f"tensors are unknown to {cls}{owner}: leave them out with --allow 'PATTERN=REASON', or {other}",
                repr(stored),
            )
    config = source.checkpoint.config
    cause = (
        f"the checkpoint is incomplete, or the config ({config.file if config else 'none'}) is another "
        "model's"
    )
    for name in source.match.missing:
        example = f"{name!r} {list(_expected_shape(source, name))}"
        ledger.add_problem(
            f"{example} is missing: {cause}", f"tensors are missing: {cause}", example
        )


def _task_of_head(source: MatchedCheckpoint, stored: str) -> str | None:
    """Returns the task of KerasHub whose head has a tensor; None if it is in no head."""
    if source.match.layout != "keras-hub" or not stored.startswith(TASK_PREFIX):
        return None
    return str((read_task(source.checkpoint.folder) or {}).get("class_name"))


def _classes_that_know(source: MatchedCheckpoint) -> dict[str, str]:
    """Returns unknown name -> a remark on which other classes of the architecture have it."""
    spec, config = source.expansion.spec, source.expansion.config
    owners: dict[str, list[str]] = {name: [] for name in source.match.unknown}
    for cls in spec.classes.values() if owners else ():
        other = match_class(expand(spec, cls, config), source.match.layout, owners)
        for name in owners.keys() - set(other.unknown):
            owners[name].append(cls.name)
    return {
        name: f" (it belongs to {', '.join(classes[:3])})"
        for name, classes in owners.items()
        if classes
    }


def _expected_shape(source: MatchedCheckpoint, stored: str) -> Shape:
    """Returns the shape that the source's layout should have under a stored name."""
    for rule in source.match.view.rules:
        if stored in rule.targets:
            shapes = stored_shapes(rule, source.expansion, source.match.layout)
            return shapes[rule.targets.index(stored)]
    raise KeyError(stored)


def _check_shapes(misfits: Misfits, ledger: CoverageLedger) -> None:
    cause = "the config is another model's, or was changed after saving"
    for ref, expected in misfits:
        found, wanted = list(ref.shape), list(expected)
        ledger.add_problem(
            f"{ref.name!r} has shape {found}, the config says {wanted}: {cause}",
            f"tensors have another shape than the config says: {cause}",
            f"{ref.name!r} {found} for {wanted}",
        )


def check_class(expansion: Expansion, layout: str, ledger: CoverageLedger) -> None:
    """Adds a problem if a layout does not have a class, where the class that it has computes what the config says.

    Raises:
        ArchitectureError: That class computes something else.
    """
    if is_plugin(layout):
        return
    cls = expansion.cls
    is_known = layout in cls.names
    for entry in [cls] if is_known else _classes_within(expansion, layout)[:1]:
        check_config(expansion, entry.name, layout)
    if not is_known:
        ledger.add_problem(_describe_missing_class(expansion, layout))


def _describe_missing_class(expansion: Expansion, layout: str) -> str:
    """Returns the problem that a layout has no such class, with what to do."""
    cls = expansion.cls
    release = " (transformers 4.57.6 is the last release that has such classes)"
    smaller = _classes_within(expansion, layout)
    return (
        f"{cls.name} has no class in {layout}{release if layout in COMPLETE_LAYOUTS else ''}; "
        + (f"--allow-lossy writes {_describe_smaller(cls, smaller[0])}, or " if smaller else "")
        + f"convert to one of {', '.join(cls.names)}"
    )


def _describe_smaller(cls: ClassSpec, smaller: ClassSpec) -> str:
    """Returns a class within another, with what it lacks; the two may have one name."""
    if smaller.name != cls.name:
        return f"{smaller.name} without the head"
    return f"{cls.name} without its {', '.join(one for one in cls.groups if one not in smaller.groups)}"


def _classes_within(expansion: Expansion, layout: str) -> list[ClassSpec]:
    """Returns the classes of a layout whose modules are all or some of a class's, the largest first."""
    found = [
        entry
        for entry in expansion.spec.classes.values()
        if layout in entry.names and {*entry.groups} <= {*expansion.cls.groups}
    ]
    return sorted(found, key=lambda entry: -len(entry.groups))


def leave_head_out(match: ClassMatch, layout: str) -> ClassMatch:
    """Returns the match of a class without head where a layout has no other; the head's tensors are ignored and noted."""
    if layout in match.expansion.cls.names or may_hold_any_class(layout) or not match.fits:
        return match
    names = list(match.stored.values())
    for entry in _classes_within(match.expansion, layout):
        expansion = expand(match.expansion.spec, entry, match.expansion.config)
        found = match_class(expansion, match.layout, names)
        if not found.missing:
            reason = f"{entry.names[layout]} has no such head"
            note = f"{len(found.unknown)} tensors are left out: {reason}"
            ignored = {**match.ignored, **found.ignored, **dict.fromkeys(found.unknown, reason)}
            notes = (*match.notes, note)
            return replace(found, ignored=ignored, unknown=(), prefix=match.prefix, notes=notes)
    return match
