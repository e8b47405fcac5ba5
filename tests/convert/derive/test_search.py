"""Expressions and conditions are found from what changes with what."""

from __future__ import annotations

from typing import Any

import pytest

from equipoise.convert.derive.places import Place
from equipoise.convert.derive.search import Search
from equipoise.convert.derive.seen import Variant

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
        (lambda v: v["inner"] or 4 * v["width"], "(inner) if inner else (4 * width)"),
    ],
)
def test_sizes(size: Any, expected: str) -> None:
    places = [Place(at, one.values) for at, one in enumerate(VARIANTS)]
    values = [size(one.values) for one in VARIANTS]
    assert Search(VARIANTS).size(places, values) == expected


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
    places = [
        Place(at, one.values, {"layer": layer})
        for at, one in enumerate(VARIANTS)
        for layer in range(one.values["layers"])
    ]
    values = [holds(one.values, one.indices["layer"]) for one in places]
    assert Search(VARIANTS).condition(places, values) == expected


def test_what_no_expression_gives_is_said() -> None:
    places = [Place(at, one.values) for at, one in enumerate(VARIANTS)]
    odd = [3, 17, 5, 91, 26, 8, 44, 2, 63, 12]
    assert Search(VARIANTS).size(places, odd) is None
