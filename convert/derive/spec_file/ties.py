"""Finds tied parameters and the conditions of their ties."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from equipoise.convert.architectures import name_templates
from equipoise.convert.derive.probe.observations import ClassObservation, Variant
from equipoise.convert.derive.search.path_templates import (
    PathTemplates,
    TemplatedPath,
    index_combinations,
)
from equipoise.convert.derive.search.sample_points import SamplePoint
from equipoise.convert.derive.search.search import ExpressionSearch


@dataclass
class SpecTies:
    """Lines under ``[ties]``: parameter -> (the parameter that it is tied to, condition)."""

    by_parameter: dict[str, tuple[str, str]] = field(default_factory=dict)
    unsolved: list[str] = field(default_factory=list)
    as_given: set[str] = field(default_factory=set)
    """Templates of parameters whose ties are written one by one, as under the given config; so must be their modules."""


def find_ties(
    variants: Sequence[Variant],
    paths: PathTemplates,
    search: ExpressionSearch,
    given: int = 0,
    as_given: Collection[str] = (),
) -> SpecTies:
    """Finds which parameters are tied, and under which condition.

    Args:
        variants: The observations.
        paths: The path templates.
        search: Finds the conditions.
        given: The variant whose ties are written one by one where no condition is found.
        as_given: Templates of modules that are always written so.
    """
    found = SpecTies()
    for name, targets in _tie_candidates(variants, paths).items():
        alone = {name, name.rpartition(".")[0]} & set(as_given)
        for target in () if alone else targets:
            points, tied = _tie_points(name, target, variants, paths)
            if tied is not None:
                when = search.find_condition(points, tied)
                if when is not None:
                    found.by_parameter[name] = (target, when)
                    break
        else:
            found.unsolved.append(f"{name} is tied to {' or '.join(targets)}")
            found.as_given.add(name)
            found.by_parameter.update(_as_given(name, variants[given], given, paths))
    return found


def _as_given(
    text: str, variant: Variant, at: int, paths: PathTemplates
) -> Iterator[tuple[str, tuple[str, str]]]:
    for cls, observation in variant.observations.items():
        for name, to in observation.ties.items():
            own = parameter_template(name, (at, cls), paths)
            if own is not None and own.template == text:
                yield name, (to, "")


def _tie_candidates(variants: Sequence[Variant], paths: PathTemplates) -> dict[str, list[str]]:
    """Returns parameter -> possible targets of its tie, the most likely first."""
    found: dict[str, set[str]] = {}
    for at, variant in enumerate(variants):
        for cls, observation in variant.observations.items():
            for name, to in observation.ties.items():
                own, other = (parameter_template(one, (at, cls), paths) for one in (name, to))
                if own is None or other is None:
                    continue
                text = other.template
                if any(own.indices.get(key) != value for key, value in other.indices.items()):
                    text = other.template.format_map(other.indices)
                found.setdefault(own.template, set()).add(text)
    # Two parameters tied to the same one may be tied to each other, e.g. a head to the decoder's embedding.
    return {
        name: [
            *sorted(targets),
            *(one for one, its in found.items() if one != name and its & targets),
        ]
        for name, targets in found.items()
    }


def parameter_template(
    name: str, key: tuple[int, str], paths: PathTemplates
) -> TemplatedPath | None:
    """Returns the template of a parameter's name."""
    if key in paths.paths.get(name, {}):
        return paths.paths[name][key]
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        path, leaf = ".".join(parts[:cut]), ".".join(parts[cut:])
        if key in paths.paths.get(path, {}):
            found = paths.paths[path][key]
            return TemplatedPath(f"{found.template}.{leaf}", found.indices)
    return None


def _tie_points(
    text: str, target: str, variants: Sequence[Variant], paths: PathTemplates
) -> tuple[list[SamplePoint], list[bool] | None]:
    """Returns the points at which a class has both parameters, and whether they are tied there; None if there is another tie."""
    points, tied = [], []
    for at, variant in enumerate(variants):
        for indices in index_combinations(name_templates.index_names(text), paths.counts, variant):
            name, other = text.format_map(indices), target.format_map(indices)
            own = [
                observation
                for observation in variant.observations.values()
                if name in observation.shapes
            ]
            both = [observation for observation in own if other in observation.shapes]
            if any(
                name in observation.ties and not _is_one_tensor(name, other, observation)
                for observation in own
            ):
                return [], None
            if both:
                points.append(SamplePoint(at, variant.values, indices))
                tied.append(any(_is_one_tensor(name, other, observation) for observation in both))
    return points, tied


def _is_one_tensor(name: str, other: str, observation: ClassObservation) -> bool:
    """Whether two parameters share one tensor."""
    return other in observation.shapes and _tie_root(name, observation) == _tie_root(
        other, observation
    )


def _tie_root(name: str, observation: ClassObservation) -> str:
    return observation.ties.get(name, name)
