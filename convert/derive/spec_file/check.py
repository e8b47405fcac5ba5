"""Compares a derived file with the models: names and shapes under every config that was built."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import Expansion, expand
from equipoise.convert.architectures.spec import ArchitectureSpec
from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import ArchitectureError, SpecError
from equipoise.convert.derive.probe.observations import ClassObservation, Variant
from equipoise.convert.layouts import layout_module


def find_differences(spec: ArchitectureSpec, variants: Sequence[Variant]) -> dict[str, list[str]]:
    """Returns class -> differences between the file and the models."""
    found: dict[str, dict[str, None]] = {}
    for variant in variants:
        for name, observation in variant.observations.items():
            problems = found.setdefault(name, {})
            if variant is not variants[0] and observation is variants[0].observations.get(name):
                continue  # its observation was taken from the cache
            problems.update(
                (text, None) for _, text in _class_mismatches(spec, name, variant, observation)
            )
    return {name: list(problems) for name, problems in found.items()}


def mismatches(spec: ArchitectureSpec, variant: Variant) -> set[tuple[str, str]]:
    """Returns (class, tensor) for every difference under one config."""
    return {
        (name, tensor)
        for name, observation in variant.observations.items()
        for tensor, _ in _class_mismatches(spec, name, variant, observation)
    }


def _class_mismatches(
    spec: ArchitectureSpec, name: str, variant: Variant, observation: ClassObservation
) -> list[tuple[str, str]]:
    """Returns the tensors that differ, with a description."""
    cls = spec.class_by_name(name)
    if cls is None:
        return [("", "the class is missing")]
    try:
        needed, allowed = file_tensors(expand(spec, cls, Config(variant.config)))
    except (ArchitectureError, SpecError) as error:
        return [("", error.message)]
    expected = {n: shape for n, shape in observation.shapes.items() if n not in observation.ties}
    changed = ", ".join(f"{key} = {value}" for key, value in variant.changes.items())
    under = f" (under {changed})" if changed else ""
    return [
        *(
            (n, f"{n} {list(expected[n])} is missing in the file{under}")
            for n in expected
            if n not in allowed
        ),
        *(
            (n, f"{n} is in the file and not in the model{under}")
            for n in needed
            if n not in observation.shapes
        ),
        *(
            (
                n,
                f"{n} is required by the file and tied to {observation.ties[n]} in the model{under}",
            )
            for n in needed
            if n in observation.ties
        ),
        *(
            (
                n,
                f"{n} is {list(allowed[n])} in the file and {list(expected[n])} in the model{under}",
            )
            for n in expected
            if n in allowed and allowed[n] != expected[n]
        ),
    ]


def file_tensors(expansion: Expansion) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Returns the tensors that a PyTorch file must have, and those that it may have, with their shapes."""
    view = layout_module("pytorch").view(expansion)
    needed: dict[str, Shape] = {}
    allowed: dict[str, Shape] = {}
    for rule in view.rules:
        shapes = rule.shapes(tuple(expansion.parameters[one].shape for one in rule.sources))
        yielded = dict(zip(rule.targets, shapes, strict=True))
        allowed.update(yielded)
        if not any(one in view.shared or one in view.left_out for one in rule.sources):
            needed.update(yielded)
    return needed, allowed
