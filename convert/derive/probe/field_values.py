"""Proposes other values for config fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from equipoise.convert.derive.probe.observations import ConfigValues

COUNT_LIMIT = 9
"""Integers below are treated as counts and increased by one; larger ones are sizes and doubled."""


def candidate_values(name: str, value: Any, texts: frozenset[str]) -> Iterator[Any]:
    """Yields other values of a field, the most likely first.

    >>> list(candidate_values("num_layers", 4, frozenset()))
    [5, 8, 6, 3, 12]
    >>> list(candidate_values("hidden_act", "relu", frozenset({"relu", "gated-gelu"})))
    ['gated-gelu', 'none']
    """
    match value:
        case bool():
            yield not value
        case int():
            small = (value + 1, 2 * value, value + 2, value - 1, 3 * value)
            large = (2 * value, 3 * value, value + 1, value // 2, 4 * value, value + 8)
            yield from dict.fromkeys(
                one for one in (small if value < COUNT_LIMIT else large) if one > 0
            )
            if value == 0:
                yield from (4, 8)
        case float():
            yield from (2 * value, value / 2, value + 1, 0.0)
        case None:
            yield from (16, 12, True)
        case str():
            yield from sorted(texts - {value})
            yield "none"
            if texts == {value}:
                yield "other"
        case [*items] if items and all(type(one) is int for one in items):
            yield [2 * one for one in items]
            if len(items) > 3 or name.endswith(
                "s"
            ):  # the length of a window size is its number of axes
                yield [*items, items[-1]]
                yield [*items, 2 * items[-1]]
            for position in range(min(len(items), 4)):
                yield [2 * one if at == position else one for at, one in enumerate(items)]
        case [*items] if items and all(isinstance(one, (str, bool)) for one in items):
            yield items[::-1]
            yield [items[-1], *items[:-1]]
            for text in sorted(texts - set(map(str, items))):
                yield [text, *items[1:]]


def resized_lists(values: ConfigValues, count: int, wanted: int) -> dict[str, Any]:
    """Returns every list field of length ``count``, resized to length ``wanted``."""
    return {
        name: [value[position % count] for position in range(wanted)]
        for name, value in values.items()
        if isinstance(value, list) and len(value) == count
    }


def resized_counts(values: ConfigValues, count: int, wanted: int) -> dict[str, Any]:
    """Returns every integer field that may be the length of a list, set to ``wanted``."""
    return {
        name: wanted
        for name, value in values.items()
        if type(value) is int and value == count and ("num" in name or "layers" in name)
    }
