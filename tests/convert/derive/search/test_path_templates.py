"""Numbers in paths: which are indices, inside words too, and their counts."""

from __future__ import annotations

from typing import Any

from equipoise.convert.derive.probe.observations import Variant
from equipoise.convert.derive.search.path_templates import PathTemplates, find_templates
from equipoise.convert.derive.search.search import ExpressionSearch

BASE: dict[str, Any] = {"sizes": [3, 5], "extra": None}
CHANGES: tuple[dict[str, Any], ...] = ({}, {"sizes": [3, 5, 7]}, {"extra": 2}, {"extra": 3})


def paths_of(*many: list[str]) -> PathTemplates:
    """Returns the templates of one class from its paths in each variant."""
    variants = [Variant(one, {**BASE, **one}, {}) for one in CHANGES]
    named = {(at, "Model"): paths for at, paths in enumerate(many)}
    values = [one.values for one in variants]
    return find_templates(named, values, set(range(len(variants))), ExpressionSearch(variants))


def test_a_number_that_ends_a_word_counts_where_a_list_does() -> None:
    two, three = ([f"body.types_{n}.fc1" for n in range(count)] for count in (2, 3))
    found = paths_of(two, three, two, two)
    assert found.paths["body.types_1.fc1"][0, "Model"].template == "body.types_{type}.fc1"
    assert found.paths["body.types_1.fc1"][0, "Model"].indices == {"type": 1}
    assert found.counts == {"type": "len(sizes)"}
    assert found.unsolved == []


def test_a_number_that_no_config_changes_is_part_of_a_name() -> None:
    found = paths_of(*[["body.norm1", "body.norm2", "body.conv2d_10"]] * 4)
    assert {one.template for by in found.paths.values() for one in by.values()} == {
        "body.norm1",
        "body.norm2",
        "body.conv2d_10",
    }
    assert found.counts == {}


def test_a_count_that_may_be_unset_is_none_then() -> None:
    found = paths_of([], [], ["more.0.x", "more.1.x"], ["more.0.x", "more.1.x", "more.2.x"])
    assert found.counts == {"more": "(extra) if extra else (0)"}
