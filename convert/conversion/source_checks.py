"""Checks the tensors of a source against its class: unknown, missing and wrongly shaped ones."""

from __future__ import annotations

from equipoise.convert.architectures.expand import expand
from equipoise.convert.checkpoints.matching import MatchedCheckpoint, match_class
from equipoise.convert.conversion.coverage import CoverageLedger
from equipoise.convert.core.arrays import Shape


def check_source_names(source: MatchedCheckpoint, ledger: CoverageLedger) -> None:
    """Records a problem for every tensor of the source that is unknown or missing."""
    owners = _classes_that_know(source)
    for name in source.match.unknown:
        stored = source.refs[name].name
        if not ledger.record_allowed_loss(stored):
            ledger.problems.append(
                f"{stored!r} is unknown to {source.expansion.cls.name}{owners.get(name, '')}: leave it "
                f"out with --allow '{stored}=REASON', or name the right class with --architecture"
            )
    config = source.checkpoint.config
    for name in source.match.missing:
        shape = _expected_shape(source, name)
        ledger.problems.append(
            f"{name!r} {list(shape)} is missing: the checkpoint is incomplete, or the config "
            f"({config.file if config else 'none'}) is another model's"
        )


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
            shapes = rule.shapes(source.shapes(rule.sources))
            return shapes[rule.targets.index(stored)]
    raise KeyError(stored)


def check_source_shapes(source: MatchedCheckpoint, ledger: CoverageLedger) -> None:
    """Records a problem for every tensor whose shape differs from the config's."""
    for rule in source.match.view.rules:
        shapes = rule.shapes(source.shapes(rule.sources))
        for stored, expected in zip(rule.targets, shapes, strict=True):
            if stored not in source.match.stored:
                continue
            ref = source.ref(stored)
            if ref.shape != expected:
                ledger.problems.append(
                    f"{ref.name!r} has shape {list(ref.shape)}, the config says {list(expected)}: the "
                    "config is another model's, or was changed after saving"
                )
