"""Generates conditions over config fields and indices, and combines them until they match observed presence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

import numpy as np

from equipoise.convert.derive.search.sample_points import SamplePoint, add_constant, numeric_values

MAX_FIELDS_COMPARED = 24
"""Largest number of fields that are compared with each other."""
MAX_OR_CASES = 4
"""Largest number of conditions joined by ``or``."""


def case_conditions(points: list[SamplePoint], fields: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yields conditions for ``a if condition else b``, with their truth at every point."""
    for name in fields:
        values: list[Any] = [point.values.get(name) for point in points]
        if any(isinstance(one, (bool, type(None))) for one in values) or 0 in values:
            yield name, np.array([bool(one) for one in values], bool)
        numbers = [one if isinstance(one, (int, float)) else 0 for one in values]
        if min(numbers) < 0 < max(numbers):  # -1 often means: use another field
            yield f"{name} > 0", np.array([one > 0 for one in numbers])
        if any(isinstance(one, str) for one in values):
            for text in sorted({one for one in values if isinstance(one, str)}):
                yield f"{name} == {text!r}", np.array([one == text for one in values], bool)
    for index in points[0].indices:
        at = np.array([point.indices[index] for point in points])
        yield f"{index} > 0", at > 0
        yield f"{index} > 1", at > 1
        for name in fields:
            field_values: list[Any] = [point.values.get(name) for point in points]
            if all(type(one) is int for one in field_values):
                yield f"{index} < {name} - 1", at < np.array(field_values) - 1
                yield f"{index} < {name}", at < np.array(field_values)
            elif all(isinstance(one, list) for one in field_values):
                lengths = np.array([len(one) for one in field_values])
                yield f"{index} < len({name}) - 1", at < lengths - 1
                yield f"{index} < len({name})", at < lengths
                if all(i < len(one) for i, one in zip(at, field_values, strict=True)):
                    items = [one[i] for i, one in zip(at, field_values, strict=True)]
                    for item in sorted({one for one in items if isinstance(one, str)})[:3]:
                        yield f"{name}[{index}] == {item!r}", np.array([o == item for o in items])


def candidate_conditions(points: list[SamplePoint], fields: list[str]) -> Iterator[tuple[str, Any]]:
    """Yields conditions over fields and indices, with their truth at every point."""
    yield from _field_conditions(points, fields)
    yield from _index_conditions(points, fields)
    numbers = {
        name: value for name in fields if (value := numeric_values(points, name)) is not None
    }
    numbers |= _list_elements(points, fields)
    for a, b in combinations(list(numbers)[:MAX_FIELDS_COMPARED], 2):
        yield f"{a} != {b}", numbers[a] != numbers[b]
        yield f"{a} == {b}", numbers[a] == numbers[b]
        yield f"{a} > {b}", numbers[a] > numbers[b]
        yield f"{b} > {a}", numbers[b] > numbers[a]


def _list_elements(points: list[SamplePoint], fields: list[str]) -> dict[str, Any]:
    """Returns the first elements of list fields, and those at an index."""
    found = {}
    for name in fields:
        lists: list[Any] = [point.values.get(name) for point in points]
        if all(isinstance(many, list) and many and type(many[0]) is int for many in lists):
            found[f"{name}[0]"] = np.array([many[0] for many in lists], np.float64)
            for index in points[0].indices:
                at = [point.indices[index] for point in points]
                if all(i < len(many) for i, many in zip(at, lists, strict=True)):
                    items = [many[i] for i, many in zip(at, lists, strict=True)]
                    if all(type(one) is int for one in items):
                        found[f"{name}[{index}]"] = np.array(items, np.float64)
    return found


def _field_conditions(points: list[SamplePoint], fields: list[str]) -> Iterator[tuple[str, Any]]:
    for name in fields:
        values: list[Any] = [point.values.get(name) for point in points]
        truth = np.array([bool(one) for one in values], bool)
        yield name, truth
        yield f"not {name}", ~truth
        if all(type(one) is int for one in values):
            numbers = np.array(values)
            for bound in sorted(set(numbers.tolist()))[:-1][:4]:
                yield f"{name} > {bound}", numbers > bound
                yield f"{name} <= {bound}", numbers <= bound
        for text in sorted({one for one in values if isinstance(one, str)}):
            equal = np.array([one == text for one in values], bool)
            yield f"{name} == {text!r}", equal
            yield f"{name} != {text!r}", ~equal
        yield from _word_conditions(name, values)
        lists = [one for one in values if isinstance(one, list)]
        if len(lists) == len(values):
            for item in sorted({one for many in lists for one in many if isinstance(one, str)}):
                yield f"{item!r} in {name}", np.array([item in one for one in lists], bool)


def _word_conditions(name: str, values: list[Any]) -> Iterator[tuple[str, Any]]:
    """Yields conditions on words of a string, e.g. ``gated`` in ``gated-gelu``."""
    texts = [one for one in values if isinstance(one, str)]
    if len(texts) < len(values):
        return
    for part in sorted({part for one in texts for part in one.split("-") if "-" in one}):
        yield f"{part!r} in {name}", np.array([part in one for one in texts], bool)


def _index_conditions(
    points: list[SamplePoint], fields: Iterable[str]
) -> Iterator[tuple[str, Any]]:
    for index in points[0].indices:
        at = np.array([point.indices[index] for point in points])
        for number in sorted(set(at.tolist()))[:4]:
            yield f"{index} == {number}", at == number
            yield f"{index} != {number}", at != number
        yield f"{index} > 1", at > 1
        for step in (2, 3, 4):
            for rest in range(step):
                yield f"{index} % {step} == {rest}", at % step == rest
        for name in fields:
            yield from _index_field_conditions(points, index, at, name)
        for other in points[0].indices:
            if other != index:
                than = np.array([point.indices[other] for point in points])
                yield f"{index} > {other}", at > than


def _index_field_conditions(
    points: list[SamplePoint], index: str, at: Any, name: str
) -> Iterator[tuple[str, Any]]:
    values: list[Any] = [point.values.get(name) for point in points]
    if all(type(one) is int for one in values):
        numbers = np.array(values)
        for shift in (0, 1, 2):
            bound = numbers - shift
            text = add_constant(name, -shift)
            yield f"{index} < {text}", at < bound
            yield f"{index} >= {text}", at >= bound
            yield f"{index} == {text}", at == bound
            yield f"{index} != {text}", at != bound
        if (numbers > 0).all():
            for rest in (0, 1):
                shifted = index if not rest else f"({index} + 1)"
                yield f"{shifted} % {name} == 0", (at + rest) % numbers == 0
                yield f"{shifted} % {name} != 0", (at + rest) % numbers != 0
            yield f"{index} % {name} == {name} - 1", at % numbers == numbers - 1
            yield f"{index} % {name} == {name} // 2", at % numbers == numbers // 2
    if all(isinstance(one, list) for one in values):
        last = np.array([len(one) - 1 for one in values])
        yield f"{index} < len({name}) - 1", at < last
        yield f"{index} == len({name}) - 1", at == last
        yield f"{index} < len({name})", at <= last
        yield f"{index} >= len({name})", at > last
        inside = [i in one for i, one in zip(at.tolist(), values, strict=True)]
        yield f"{index} in {name}", np.array(inside)
        yield f"{index} not in {name}", ~np.array(inside)
        if all(values) and any(i >= len(one) for i, one in zip(at, values, strict=True)):
            text = f"{name}[{index} % len({name})]"  # the list is a repeated pattern
            items = [one[i % len(one)] for i, one in zip(at, values, strict=True)]
            for item in sorted({one for one in items if isinstance(one, str)}):
                yield f"{text} == {item!r}", np.array([one == item for one in items])
                yield f"{text} != {item!r}", np.array([one != item for one in items])
        if all(i < len(one) for i, one in zip(at, values, strict=True)):
            items = [one[i] for i, one in zip(at, values, strict=True)]
            yield f"{name}[{index}]", np.array([bool(one) for one in items])
            yield f"not {name}[{index}]", np.array([not one for one in items])
            for item in sorted({one for one in items if isinstance(one, str)}):
                yield f"{name}[{index}] == {item!r}", np.array([one == item for one in items])
                yield f"{name}[{index}] != {item!r}", np.array([one != item for one in items])


def find_condition(terms: Iterable[tuple[str, Any]], target: Any) -> str | None:
    """Returns the first condition that equals the target, or an ``and``/``or`` of two or three that does."""
    kept: dict[bytes, tuple[str, Any]] = {}
    for text, holds in terms:
        if (holds == target).all():
            return text
        if holds.any() and not holds.all():
            kept.setdefault(holds.tobytes(), (text, holds))
    wider = [one for one in kept.values() if (one[1] >= target).all()]
    narrower = [one for one in kept.values() if (one[1] <= target).all()]
    for (a, first), (b, second) in combinations(wider, 2):
        if ((first & second) == target).all():
            return f"({a}) and ({b})"
    for (a, first), (b, second) in combinations(narrower, 2):
        if ((first | second) == target).all():
            return f"({a}) or ({b})"
    for (a, first), (b, second), (c, third) in combinations(wider[:40], 3):
        if ((first & second & third) == target).all():
            return f"({a}) and ({b}) and ({c})"
    for (a, first), (b, second), (c, third) in combinations(narrower[:40], 3):
        if ((first | second | third) == target).all():
            return f"({a}) or ({b}) or ({c})"
    for a, first in wider:
        for (b, second), (c, third) in combinations(list(kept.values())[:60], 2):
            if ((first & (second | third)) == target).all():
                return f"({a}) and ({b} or {c})"
    return _find_or_cases(wider[:40], list(kept.values()), target)


def _find_or_cases(
    wider: list[tuple[str, Any]], terms: list[tuple[str, Any]], target: Any
) -> str | None:
    """Returns ``a and (b or c ...)`` that equals the target; comparisons with large constants are excluded as chance hits."""
    terms = [one for one in terms if not re.search(r"[<>]=? \d{2,}$", one[0])]
    if not terms:
        return None
    holds = np.stack([one for _, one in terms])
    for text, inside in [*wider, ("", np.ones_like(target))]:
        allowed = ~(holds & inside & ~target).any(axis=1)
        left = target.copy()
        chosen: list[str] = []
        while left.any() and len(chosen) < MAX_OR_CASES:
            gains = (holds & left).sum(axis=1) * allowed
            best = int(np.argmax(gains))
            if gains[best] == 0:
                break
            chosen.append(terms[best][0])
            left &= ~holds[best]
        if not left.any():
            cases = " or ".join(chosen)
            return f"({text}) and ({cases})" if text else cases
    return None
