"""Finds expressions over a config for observed sizes and counts, and conditions for observed presence.

The relevant fields are found first: if two sample points differ in one config field and in the value, the value
depends on this field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from equipoise.convert.derive.probe.observations import Variant
from equipoise.convert.derive.search.conditions import (
    candidate_conditions,
    case_conditions,
    find_condition,
)
from equipoise.convert.derive.search.expressions import candidate_terms, find_expression
from equipoise.convert.derive.search.sample_points import SamplePoint, Vector

MAX_CASE_DEPTH = 3
"""Largest nesting of ``a if condition else b``."""

MAX_SEARCHES_PER_SIZE = 120
"""Largest number of searches for one size."""


class ExpressionSearch:
    """Searches expressions over the configs of variants.

    The width of an MLP is observed under three configs; only ``mlp_ratio * hidden_size`` fits all of them:

    >>> from equipoise.convert.derive.probe.observations import Variant
    >>> from equipoise.convert.derive.search.sample_points import SamplePoint
    >>> base = {"hidden_size": 24, "mlp_ratio": 4, "num_layers": 2}
    >>> changes = [{}, {"hidden_size": 48}, {"mlp_ratio": 3}, {"num_layers": 3}]
    >>> variants = [Variant(one, {**base, **one}, {}) for one in changes]
    >>> points = [SamplePoint(at, one.values) for at, one in enumerate(variants)]
    >>> search = ExpressionSearch(variants)
    >>> search.find_size(points, [96, 192, 72, 96])
    'hidden_size * mlp_ratio'
    >>> search.find_condition(points, [True, True, False, True])
    'mlp_ratio > 3'

    Args:
        variants: The variants; the first is the base.
    """

    def __init__(self, variants: Sequence[Variant]) -> None:
        base = variants[0].values
        self.budget = 0
        self.sizes: dict[object, str | None] = {}
        self.conditions: dict[object, str | None] = {}
        self.single_changes = _single_changes(variants)
        self.changed_fields = {
            name for name, value in base.items() if isinstance(value, list) and value
        }
        for one in variants:
            self.changed_fields |= {
                name
                for name, value in one.values.items()
                if base.get(name) != value and not isinstance(value, dict)
            }

    def find_size(self, points: list[SamplePoint], values: Sequence[int]) -> str | None:
        """Returns an expression with these values at these points, or None."""
        target = np.array(values, np.float64)
        if (target == target[0]).all():
            return str(int(target[0]))
        key = (_points_key(points), target.tobytes())
        if key not in self.sizes:
            found = None
            for known, fields in enumerate(self._fields(points, values)):
                distinct = _distinct_points(points, target, fields)
                if distinct is not None:
                    self.budget = MAX_SEARCHES_PER_SIZE
                    found = self._size(*distinct, fields, known)
                if found:
                    break
            self.sizes[key] = _as_integer(found, points)
        return self.sizes[key]

    def find_condition(self, points: list[SamplePoint], values: Sequence[bool]) -> str | None:
        """Returns a condition that holds at exactly these points, or None; empty if it always holds."""
        target = np.array(values, bool)
        if target.all():
            return ""
        key = (_points_key(points), target.tobytes())
        if key not in self.conditions:
            found = None
            for fields in self._fields(points, list(map(int, values))):
                distinct = _distinct_points(points, target, fields)
                if distinct is not None:
                    found = find_condition(candidate_conditions(distinct[0], fields), distinct[1])
                if found:
                    break
            self.conditions[key] = found
        return self.conditions[key]

    def _fields(self, points: Sequence[SamplePoint], values: Sequence[int]) -> Iterator[list[str]]:
        """Yields the fields to search: first those whose single change changes the values, then all that were ever changed."""
        at = {
            (point.variant, tuple(point.indices.items())): value
            for point, value in zip(points, values, strict=True)
        }
        found: dict[str, None] = {}
        for (variant, indices), value in at.items():
            for parent, names in self.single_changes.get(variant, ()):
                if at.get((parent, indices), value) != value:
                    found.update(dict.fromkeys(names))
        if found:
            yield list(found)
        yield sorted(self.changed_fields, key=lambda name: (name.count("."), name))

    def _size(
        self, points: list[SamplePoint], target: Vector, fields: list[str], depth: int
    ) -> str | None:
        if (target == target[0]).all():
            return str(int(target[0]))
        self.budget -= 1
        found = find_expression(candidate_terms(points, fields), target)
        if found is not None or depth == MAX_CASE_DEPTH:
            return found
        for text, holds in case_conditions(points, fields):
            if self.budget <= 0:
                return None
            if holds.all() or not holds.any():
                continue
            branches: dict[bool, str | None] = {}
            sides = {keep: _select(points, target, holds == keep) for keep in (True, False)}
            for keep, (inside, wanted) in sides.items():
                branches[keep] = self._size(inside, wanted, fields, MAX_CASE_DEPTH)
            # One branch must be simple; the other may contain further conditions.
            for keep in (True, False):
                if branches[keep] is None and branches[not keep] is not None:
                    branches[keep] = self._size(*sides[keep], fields, depth + 1)
            if branches[True] is not None and branches[False] is not None:
                return f"({branches[True]}) if {text} else ({branches[False]})"
        return None


def _distinct_points(
    points: Sequence[SamplePoint], target: Any, fields: Sequence[str]
) -> tuple[list[SamplePoint], Any] | None:
    """Returns one point for each combination of fields and indices; None if equal points have different values."""
    first: dict[str, int] = {}
    for at, point in enumerate(points):
        key = repr(([point.values.get(name) for name in fields], [*point.indices.items()]))
        if target[first.setdefault(key, at)] != target[at]:
            return None
    keep = [*first.values()]
    return [points[at] for at in keep], target[keep]


def _as_integer(text: str | None, points: Sequence[SamplePoint]) -> str | None:
    """Returns the expression wrapped in ``int`` if it uses float fields."""
    if text is None:
        return None
    used = {
        name
        for name, value in points[0].values.items()
        if isinstance(value, float) and re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", text)
    }
    return f"int({text})" if used else text


def _select(
    points: list[SamplePoint], target: Vector, holds: Any
) -> tuple[list[SamplePoint], Vector]:
    return [one for one, keep in zip(points, holds, strict=True) if keep], target[holds]


def _points_key(points: Sequence[SamplePoint]) -> int:
    return hash(tuple((one.variant, *one.indices.items()) for one in points))


def _single_changes(
    variants: Sequence[Variant],
) -> dict[int, list[tuple[int, tuple[str, ...]]]]:
    """Returns variant -> variants with one change less, with the fields that differ."""
    found: dict[int, list[tuple[int, tuple[str, ...]]]] = {}
    for at, one in enumerate(variants):
        for parent in range(len(variants)):
            other = variants[parent]
            if parent == at or len(other.changes) >= len(one.changes):
                continue
            rest = dict(one.changes)
            shared = all(
                name in rest and rest[name] == value for name, value in other.changes.items()
            )
            fields = tuple(name for name in rest if name not in other.changes)
            plain = sum(not isinstance(rest[name], list) for name in fields)
            if shared and (len(fields) == 1 or plain <= 1):
                found.setdefault(at, []).append((parent, fields))
    return found
