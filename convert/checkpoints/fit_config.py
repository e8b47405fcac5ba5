"""Corrects a config by the tensors: the number of labels and the size of the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import expand
from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.matching import ClassMatch, MatchedCheckpoint, match_class
from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import ArchitectureError, EquipoiseError
from equipoise.convert.core.tensor import TensorRef

_LABELS, _VOCABULARY = "num_labels", "vocab_size"


def fit_config(checkpoint: Checkpoint, match: ClassMatch) -> ClassMatch:
    """Returns the match under a config that the tensors agree with, where one number in it is all that differs.

    The classifier's rows decide how many labels there are, and the embedding's rows how many tokens. Any other
    difference is left for the plan to refuse.
    """
    if not match.fits:
        return match
    misfits = MatchedCheckpoint(checkpoint, match).misfits()
    config = match.expansion.config
    notes = []
    for field in (_LABELS, _VOCABULARY) if misfits else ():
        value, size = _value(config, field), None
        if value is not None:
            size = _other_size(misfits, value)
        if size is not None:
            edits, note = _edits(config, field, size)
            config = config.with_edits(edits)
            notes.append(note)
    if not misfits:
        edits, note = _agreeing_labels(match, config)
        return _with_config(match, config.with_edits(edits), [note]) if edits else match
    fitted = _with_config(match, config, notes) if notes else match
    return match if MatchedCheckpoint(checkpoint, fitted).misfits() else fitted


def with_fitted_config(checkpoint: Checkpoint, match: ClassMatch) -> Checkpoint:
    """Returns the checkpoint with the config of the match, whose corrections a conversion writes."""
    if checkpoint.config is None:
        return checkpoint
    return replace(checkpoint, config=match.expansion.config)


def _with_config(match: ClassMatch, config: Config, notes: list[str]) -> ClassMatch:
    expansion = expand(match.expansion.spec, match.expansion.cls, config)
    names = [*match.stored.values(), *match.ignored]
    fitted = match_class(expansion, match.layout, names)
    return replace(
        fitted,
        ignored={**match.ignored, **fitted.ignored},
        prefix=match.prefix,
        notes=(*match.notes, *notes),
    )


def _value(config: Config, field: str) -> int | None:
    try:
        value = config.lookup(field)
    except ArchitectureError:
        return None
    return value if isinstance(value, int) else None


def _other_size(misfits: list[tuple[TensorRef, Shape]], value: int) -> int | None:
    """Returns the size that stands in the tensors everywhere in place of a config's value; None if it is not one."""
    sizes = set()
    for ref, expected in misfits:
        if len(ref.shape) != len(expected):
            continue
        differing = [(n, m) for n, m in zip(ref.shape, expected, strict=True) if n != m]
        sizes |= {found for found, said in differing if said == value}
    return sizes.pop() if len(sizes) == 1 else None


def _edits(config: Config, field: str, size: int) -> tuple[dict[str, object], str]:
    if field == _LABELS:
        edits = _label_edits(config, size)
        return edits, _label_note(config, edits, size)
    said = config.values.get(field, config.defaults.get(field))
    note = (
        f"the embeddings have {size} rows and config.json says vocab_size {said}: {size} is written"
    )
    return {field: size}, note


def _agreeing_labels(match: ClassMatch, config: Config) -> tuple[dict[str, object], str]:
    """Returns edits where ``num_labels`` and ``id2label`` contradict each other and the tensors agree with one."""
    labels, number = config.values.get("id2label"), config.values.get(_LABELS)
    if not isinstance(labels, Mapping) or not isinstance(number, int) or len(labels) == number:
        return {}, ""
    changed = _label_edits(config, number + 1)
    try:
        other = expand(match.expansion.spec, match.expansion.cls, config.with_edits(changed))
    except EquipoiseError:
        return {}, ""
    shapes = [[one.shape for one in each.parameters.values()] for each in (match.expansion, other)]
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
    said = [f"num_labels {number}"] if number is not None else []
    said += [f"{len(labels)} names in id2label"] if isinstance(labels, Mapping) else []
    note = f"the classifier has {size} rows and config.json says {' and '.join(said) or 'nothing'}: {size} is written"
    own = [str(name) for name in labels.values()] if isinstance(labels, Mapping) else []
    lost = [name for name in own if not name.startswith("LABEL_")] if "id2label" in edits else []
    return (
        f"{note}; the names {', '.join(lost[:4])} are dropped, since they do not fit"
        if lost
        else note
    )
