"""Corrects a config by the tensors: the number of labels and the size of the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import Expansion, expand
from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import ArchitectureError, EquipoiseError

_MAX_LABELS = 100_000
"""Labels for which names are written; a classifier of more rows is refused as any other misfit."""
_LABELS, _VOCABULARY = "num_labels", "vocab_size"

Misfits = Sequence[tuple[Shape, Shape]]
"""The shapes that tensors have and that the config says, where the two differ."""


@dataclass(frozen=True)
class ConfigCorrection:
    """A config that tensors may agree with, and what was changed in it."""

    config: Config
    notes: tuple[str, ...]


def correct_config(expansion: Expansion, misfits: Misfits) -> ConfigCorrection | None:
    """Returns the config with the numbers that the tensors' shapes show in place of its own; None to leave it.

    The classifier's rows decide how many labels there are, and the embedding's rows how many tokens. Whether every
    tensor fits the new config is left to the caller.
    """
    config = expansion.config
    if not misfits:
        edits, note = _agreeing_labels(expansion)
        return ConfigCorrection(config.with_edits(edits), (note,)) if edits else None
    notes = []
    for field in (_LABELS, _VOCABULARY):
        value = _value(config, field)
        size = _other_size(misfits, value) if value is not None else None
        if size is not None and (field != _LABELS or size <= _MAX_LABELS):
            edits, note = _edits(config, field, size)
            config = config.with_edits(edits)
            notes.append(note)
    return ConfigCorrection(config, tuple(notes)) if notes else None


def _value(config: Config, field: str) -> int | None:
    try:
        value = config.lookup(field)
    except ArchitectureError:
        return None
    return value if isinstance(value, int) else None


def _other_size(misfits: Misfits, value: int) -> int | None:
    """Returns the size that stands in the tensors everywhere in place of a config's value; None if it is not one."""
    sizes = set()
    for found_shape, expected in misfits:
        if len(found_shape) != len(expected):
            continue
        differing = [(n, m) for n, m in zip(found_shape, expected, strict=True) if n != m]
        sizes |= {found for found, expected_size in differing if expected_size == value}
    return sizes.pop() if len(sizes) == 1 else None


def _edits(config: Config, field: str, size: int) -> tuple[dict[str, object], str]:
    if field == _LABELS:
        edits = _label_edits(config, size)
        return edits, _label_note(config, edits, size)
    own = config.values.get(field, config.defaults.get(field))
    note = (
        f"the embeddings have {size} rows and config.json says vocab_size {own}: {size} is written"
    )
    return {field: size}, note


def _agreeing_labels(expansion: Expansion) -> tuple[dict[str, object], str]:
    """Returns edits where ``num_labels`` and ``id2label`` contradict each other and the tensors agree with one."""
    config = expansion.config
    labels, number = config.values.get("id2label"), config.values.get(_LABELS)
    if not isinstance(labels, Mapping) or not isinstance(number, int) or len(labels) == number:
        return {}, ""
    changed = _label_edits(config, number + 1)
    try:
        other = expand(expansion.spec, expansion.cls, config.with_edits(changed))
    except EquipoiseError:
        return {}, ""
    shapes = [[one.shape for one in each.parameters.values()] for each in (expansion, other)]
    if shapes[0] == shapes[1]:
        return {}, ""  # the class has no classifier of that size
    edits = _label_edits(config, number)
    return edits, _label_note(config, edits, number)


def _label_edits(config: Config, size: int) -> dict[str, object]:
    """Returns what a config must say about labels for a classifier of that many rows."""
    edits: dict[str, object] = {}
    if _LABELS in config.values:
        edits[_LABELS] = size
    labels = config.values.get("id2label")
    if not isinstance(labels, Mapping) or len(labels) != size:
        names = [f"LABEL_{index}" for index in range(size)]
        edits["id2label"] = {str(index): name for index, name in enumerate(names)}
        edits["label2id"] = {name: index for index, name in enumerate(names)}
    return edits


def _label_note(config: Config, edits: Mapping[str, object], size: int) -> str:
    labels, number = config.values.get("id2label"), config.values.get(_LABELS)
    claims = [f"num_labels {number}"] if number is not None else []
    claims += [f"{len(labels)} names in id2label"] if isinstance(labels, Mapping) else []
    # A number that was made on reading is that of a KerasHub preset, whose task says it.
    file = "task.json" if {"id2label", _LABELS} & {*config.edits} else "config.json"
    note = f"the classifier has {size} rows and {file} says {' and '.join(claims) or 'nothing of it'}: {size} is written"
    own = [str(name) for name in labels.values()] if isinstance(labels, Mapping) else []
    lost = [name for name in own if not name.startswith("LABEL_")] if "id2label" in edits else []
    return (
        f"{note}; the names {', '.join(lost[:4])} are dropped, since they do not fit"
        if lost
        else note
    )
