"""Converts observed module paths to templates: decides which numbers in a path are indices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from equipoise.convert.architectures.expand import MAX_REPEAT
from equipoise.convert.architectures.expressions import dotted_names, evaluate, parse_expression
from equipoise.convert.derive.probe.observations import ConfigValues, Variant
from equipoise.convert.derive.search.sample_points import SamplePoint
from equipoise.convert.derive.search.search import ExpressionSearch

RESERVED_NAMES = ("head", "len", "min", "max", "sum", "int", "round")


@dataclass(frozen=True)
class TemplatedPath:
    """A path as a template and the values of its indices."""

    template: str
    indices: Mapping[str, int]


@dataclass
class PathTemplates:
    """The templates of all paths.

    Attributes:
        counts: Index -> the expression of its count.
        unsolved: Prefixes of paths with a number whose count has no expression.
    """

    counts: dict[str, str] = field(default_factory=dict)
    unsolved: list[str] = field(default_factory=list)
    paths: dict[str, dict[tuple[int, str], TemplatedPath]] = field(default_factory=dict)


ObservedPaths = Mapping[tuple[int, str], Iterable[str]]
"""(variant, class) -> its paths."""


def find_templates(
    observed: ObservedPaths,
    values: list[ConfigValues],
    moved_by_numbers: set[int],
    search: ExpressionSearch,
) -> PathTemplates:
    """Reads every path from left to right and decides for each number whether it is an index.

    Args:
        observed: The observed paths.
        values: The config of each variant.
        moved_by_numbers: The variants in which a number or list of the config was changed.
        search: Finds the expressions.
    """
    found = PathTemplates()
    walks = [
        _PathWalk(key, path, _split_path(path)) for key, paths in observed.items() for path in paths
    ]
    depth = max((len(walk.parts) for walk in walks), default=0)
    for level in range(depth):
        groups: dict[str, list[_PathWalk]] = {}
        for walk in walks:
            if level >= len(walk.parts):
                continue
            part = walk.parts[level]
            if part.isascii() and part.isdigit():
                groups.setdefault(walk.text, []).append(walk)
            else:
                walk.text += part
        for start, members in groups.items():
            _resolve_number(start, members, level, found, values, moved_by_numbers, search)
    for walk in walks:
        path = TemplatedPath(walk.text, walk.indices)
        found.paths.setdefault(walk.path, {})[walk.key] = path
    return found


@dataclass
class _PathWalk:
    key: tuple[int, str]
    path: str
    parts: list[str]
    text: str = ""
    indices: dict[str, int] = field(default_factory=dict)


@cache
def _split_path(path: str) -> list[str]:
    """Splits a path at its numbers, including numbers at the end of words."""
    return [part for part in re.split(r"(?<![0-9])(0|[1-9][0-9]*)(?=\.|$)", path) if part]


def _resolve_number(
    start: str,
    members: list[_PathWalk],
    level: int,
    found: PathTemplates,
    values: list[ConfigValues],
    moved_by_numbers: set[int],
    search: ExpressionSearch,
) -> None:
    """Decides whether the number after a common prefix is an index or part of a name."""
    sizes: dict[tuple[tuple[int, str], tuple[tuple[str, int], ...]], set[int]] = {}
    for walk in members:
        outer = tuple(walk.indices.items())
        sizes.setdefault((walk.key, outer), set()).add(int(walk.parts[level]))
    name = None
    if _is_counting(sizes, moved_by_numbers):
        points = []
        lengths = []
        for ((variant, _), outer), numbers in sizes.items():
            point = SamplePoint(variant, values[variant], dict(outer))
            if point not in points:
                points.append(point)
                lengths.append(max(numbers) + 1)
            else:
                at = points.index(point)
                lengths[at] = max(lengths[at], max(numbers) + 1)
        count = search.find_size(points, lengths)
        is_whole_part = start.endswith(".") or not start
        if count is None and is_whole_part:
            found.unsolved.append(start.removesuffix("."))
        elif count is not None and (
            is_whole_part or " if " not in count
        ):  # norm3 may be a plain name
            fields = set().union(*values)
            name = _index_name(start, count, found.counts, {one.split(".")[0] for one in fields})
            found.counts[name] = _guard_unset_fields(count, values)
    for walk in members:
        if name is None:
            walk.text += walk.parts[level]
        else:
            walk.text += f"{{{name}}}"
            walk.indices[name] = int(walk.parts[level])


def _guard_unset_fields(count: str, values: list[ConfigValues]) -> str:
    """Returns the count, or 0 if a field that it uses is None."""
    for name in dict.fromkeys(dotted_names(parse_expression(count))):
        if any(name in one for one in values) and any(one.get(name) is None for one in values):
            count = f"({count}) if {name} else (0)"
    return count


def _is_counting(
    sizes: Mapping[tuple[tuple[int, str], tuple[tuple[str, int], ...]], set[int]],
    moved_by_numbers: set[int],
) -> bool:
    """Whether the numbers vary with an outer index, or with a number of the config."""
    per_variant: dict[tuple[int, str], list[set[int]]] = {}
    by_outer: dict[tuple[str, tuple[tuple[str, int], ...]], list[set[int]]] = {}
    for ((variant, cls), outer), numbers in sizes.items():
        per_variant.setdefault((variant, cls), []).append(numbers)
        if variant in moved_by_numbers or variant == 0:
            by_outer.setdefault((cls, outer), []).append(numbers)
    groups = [*by_outer.values()]
    return any(one != many[0] for many in groups for one in many) or any(
        max(one) != max(many[0]) for many in per_variant.values() for one in many
    )


def _index_name(start: str, count: str, counts: Mapping[str, str], fields: set[str]) -> str:
    """Returns a name for an index: the preceding word in the singular, unless another index has it."""
    last = next(_words_from_end(start), "index")
    if last.endswith("s") and not last.endswith("ss") and len(last) > 2:
        last = last[:-1]
    stem = last if last.isidentifier() and last not in fields and last not in RESERVED_NAMES else ""
    stem = stem or f"{last}_index" if last.isidentifier() else "index"
    options = (stem if number == 1 else f"{stem}_{number}" for number in range(1, 100))
    return next(
        one
        for one in options
        if one not in fields and counts.get(one, count) == count and f"{{{one}}}" not in start
    )


def _words_from_end(start: str) -> Iterator[str]:
    """Yields the words of a path from the end."""
    for part in reversed(start.split(".")):
        word = part.partition("{")[0].rstrip("_0123456789")
        if word:
            yield word


def index_combinations(
    names: Sequence[str], counts: Mapping[str, str], variant: Variant
) -> Iterator[dict[str, int]]:
    """Yields every combination of indices under a variant."""

    def loop(names: Sequence[str], indices: dict[str, int]) -> Iterator[dict[str, int]]:
        if not names:
            yield dict(indices)
            return

        def lookup(name: str) -> object:
            return indices[name] if name in indices else variant.values[name]

        count = evaluate(counts[names[0]], lookup)
        for index in range(min(int(count), MAX_REPEAT)):
            yield from loop(names[1:], {**indices, names[0]: index})

    try:
        yield from loop(names, {})
    except (IndexError, KeyError, TypeError, ZeroDivisionError):
        return
