"""Records of built models: modules, sizes and ties. Needs no framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from equipoise.convert.architectures.module_kinds import MODULE_KINDS
from equipoise.convert.core.arrays import Shape

ConfigValues = Mapping[str, Any]
"""A flat config: dotted name -> value."""


@dataclass(frozen=True)
class ObservedModule:
    """A module, or a bare parameter.

    Attributes:
        kind: Key of :data:`equipoise.convert.architectures.module_kinds.MODULE_KINDS`.
        sizes: Its size arguments by name, in order; those of a bare parameter are numbered.
        bias: Whether it has a bias; None for kinds that always or never have one.
    """

    kind: str
    sizes: tuple[tuple[str, int], ...]
    bias: bool | None = None

    @property
    def signature(self) -> tuple[str, int]:
        """Kind and number of sizes: equal for all modules of one line of an architecture file."""
        return self.kind, len(self.sizes)

    def leaves(self) -> Iterator[str]:
        """Yields the names of its parameters below its path; an empty name for a bare parameter."""
        for leaf in MODULE_KINDS[self.kind].leaves:
            if leaf != "bias" or self.bias is not False:
                yield leaf


@dataclass(frozen=True)
class ClassObservation:
    """One class, built under one config.

    Attributes:
        modules: Path in files -> module.
        ties: Parameter -> the parameter whose tensor it is.
        shapes: Every tensor that a file may have, tied ones included.
    """

    modules: Mapping[str, ObservedModule]
    ties: Mapping[str, str]
    shapes: Mapping[str, Shape]

    def with_prefix(self, prefix: str) -> ClassObservation:
        """Returns the observation with a prefix before every name."""
        if not prefix:
            return self
        return replace(
            self,
            modules={f"{prefix}.{path}": one for path, one in self.modules.items()},
            ties={f"{prefix}.{name}": f"{prefix}.{to}" for name, to in self.ties.items()},
            shapes={f"{prefix}.{name}": shape for name, shape in self.shapes.items()},
        )


@dataclass(frozen=True)
class Variant:
    """The classes, built under one config.

    Attributes:
        changes: What differs from the base config: field -> value.
        values: The whole flat config.
        config: The config as in ``config.json``.
        observations: By class; classes that cannot be built under this config are missing.
    """

    changes: Mapping[str, Any]
    values: ConfigValues
    config: Mapping[str, Any]
    observations: Mapping[str, ClassObservation] = field(default_factory=dict)


def any_differ(
    observations: Mapping[str, ClassObservation], other: Mapping[str, ClassObservation]
) -> bool:
    """Whether any class differs."""
    return any(observations[name] != other[name] for name in observations.keys() & other.keys())


def smallest_class_cover(
    observations: Mapping[str, ClassObservation], other: Mapping[str, ClassObservation]
) -> frozenset[str]:
    """Returns few classes that together show all differences: classes of a type share most of their modules."""
    both = observations.keys() & other.keys()
    known = {path for one in (observations, other) for name in both for path in one[name].modules}
    left = {
        name: set(_differing_parts(observations[name], other[name], known))
        for name in observations
        if name in both
    }
    found = set()
    while any(left.values()):
        name = max(left, key=lambda one: len(left[one]))
        found.add(name)
        shown = left.pop(name)
        left = {one: rest - shown for one, rest in left.items()}
    return frozenset(found)


def _differing_parts(
    one: ClassObservation, other: ClassObservation, known: set[str]
) -> Iterator[object]:
    """Yields the differences of two observations of a class; paths without the prefix if another class has them so."""
    for a, b in ((one, other), (other, one)):
        for path, module in a.modules.items():
            if b.modules.get(path) != module:
                inner = path.partition(".")[2]
                yield (inner if inner in known else path), module
    yield from one.ties.items() ^ other.ties.items()
