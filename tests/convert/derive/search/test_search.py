"""Expressions and conditions are found from observed values."""

from __future__ import annotations

from typing import Any

import pytest

from equipoise.convert.derive.probe.observations import Variant
from equipoise.convert.derive.search.sample_points import SamplePoint
from equipoise.convert.derive.search.search import ExpressionSearch

BASE = {"width": 24, "heads": 4, "ratio": 2.0, "layers": 3, "inner": None, "flag": False}
CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"width": 48},
    {"width": 72},
    {"heads": 2},
    {"ratio": 3.0},
    {"layers": 5},
    {"inner": 40},
    {"inner": 56},
    {"flag": True},
    {"width": 96, "heads": 8, "layers": 4},
)
VARIANTS = [Variant(one, {**BASE, **one}, {}) for one in CHANGES]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (lambda v: 7, "7"),
        (lambda v: v["width"], "width"),
        (lambda v: 3 * v["width"], "3 * width"),
        (lambda v: v["width"] // v["heads"], "width // heads"),
        (lambda v: v["layers"] + 1, "layers + 1"),
        (lambda v: int(v["width"] * v["ratio"]), "int(width * ratio)"),
        (lambda v: (v["width"] // v["heads"]) ** 2 + 1, "(width // heads) * (width // heads) + 1"),
        (
            lambda v: (int((v["width"] + v["heads"]) * 2 / 3) + 7) // 8 * 8,
            "(int((heads + width) * 2 / 3) + 7) // 8 * 8",
        ),
        (lambda v: v["inner"] or 4 * v["width"], "(inner) if inner else (4 * width)"),
    ],
)
def test_sizes(size: Any, expected: str) -> None:
    points = [SamplePoint(at, one.values) for at, one in enumerate(VARIANTS)]
    values = [size(one.values) for one in VARIANTS]
    assert ExpressionSearch(VARIANTS).find_size(points, values) == expected


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        (lambda v, i: True, ""),
        (lambda v, i: v["flag"], "flag"),
        (lambda v, i: not v["flag"], "not flag"),
        (lambda v, i: i > 0, "layer != 0"),
        (lambda v, i: i < v["layers"] - 1, "layer < layers - 1"),
        (lambda v, i: i == 0 and not v["flag"], "(not flag) and (layer == 0)"),
    ],
)
def test_conditions(holds: Any, expected: str) -> None:
    points = [
        SamplePoint(at, one.values, {"layer": layer})
        for at, one in enumerate(VARIANTS)
        for layer in range(one.values["layers"])
    ]
    values = [holds(one.values, one.indices["layer"]) for one in points]
    assert ExpressionSearch(VARIANTS).find_condition(points, values) == expected


MORE: dict[str, Any] = {
    "keys": 3,
    "key_width": 8,
    "values": 2,
    "value_width": 16,
    "pattern": ["a", "a", "b"],
    "reach": -1,
    "length": 32,
    "sort": "relu",
    "depth": 7,
    "flag": True,
}
MORE_CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"keys": 4},
    {"key_width": 16},
    {"values": 5},
    {"value_width": 32},
    {"reach": 10},
    {"reach": 12},
    {"length": 64},
    {"sort": "gated-gelu"},
    {"sort": "gated-silu"},
    {"sort": "none"},
    {"pattern": ["b", "a"]},
    {"keys": 5, "key_width": 32, "values": 3, "value_width": 8},
)
MORE_VARIANTS = [Variant(one, {**MORE, **one}, {}) for one in MORE_CHANGES]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (
            lambda v: 2 * v["keys"] * v["key_width"] + v["values"] * v["value_width"],
            "2 * keys * key_width + values * value_width",
        ),
        (
            lambda v: 2 * (v["reach"] if v["reach"] > 0 else v["length"]),
            "(2 * reach) if reach > 0 else (2 * length)",
        ),
    ],
)
def test_sizes_that_are_sums_or_fallbacks(size: Any, expected: str) -> None:
    points = [SamplePoint(at, one.values) for at, one in enumerate(MORE_VARIANTS)]
    values = [size(one.values) for one in MORE_VARIANTS]
    assert ExpressionSearch(MORE_VARIANTS).find_size(points, values) == expected


def test_a_repeated_list_and_a_word_of_a_string() -> None:
    points = [
        SamplePoint(at, one.values, {"layer": layer})
        for at, one in enumerate(MORE_VARIANTS)
        for layer in range(one.values["depth"])
    ]
    search = ExpressionSearch(MORE_VARIANTS)
    cyclic = [
        (many := one.values["pattern"])[one.indices["layer"] % len(many)] == "b" for one in points
    ]
    assert search.find_condition(points, cyclic) == "pattern[layer % len(pattern)] != 'a'"
    gated = ["gated" in one.values["sort"] for one in points]
    assert search.find_condition(points, gated) == "'gated' in sort"


def test_a_condition_of_several_cases() -> None:
    base: dict[str, Any] = {"stem": 16, "widths": [24, 48], "first": False}
    changes: tuple[dict[str, Any], ...] = (
        *({}, {"stem": 24}, {"stem": 48}, {"first": True}),
        *({"first": True, "stem": 24}, {"widths": [16, 48]}),
    )
    variants = [Variant(one, {**base, **one}, {}) for one in changes]
    points = [
        SamplePoint(at, one.values, {"stage": stage, "layer": layer})
        for at, one in enumerate(variants)
        for stage in range(2)
        for layer in range(3)
    ]
    shortcut = [
        at["layer"] == 0 and (at["stage"] > 0 or v["first"] or v["stem"] != v["widths"][0])
        for at, v in ((one.indices, one.values) for one in points)
    ]
    assert ExpressionSearch(variants).find_condition(points, shortcut) == (
        "(layer == 0) and (stem != widths[stage] or first or stage != 0)"
    )


def test_missing_expressions_are_reported() -> None:
    points = [SamplePoint(at, one.values) for at, one in enumerate(VARIANTS)]
    odd = [3, 17, 5, 91, 26, 8, 44, 2, 63, 12]
    assert ExpressionSearch(VARIANTS).find_size(points, odd) is None
