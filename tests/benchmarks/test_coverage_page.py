"""docs/coverage.md matches the results of the benchmarks and lists every failure."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture(scope="module")
def coverage() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield import_module("coverage_page")
    sys.path.remove(str(ROOT / "benchmarks"))


def test_page_matches_the_results(coverage: Any) -> None:
    """``python benchmarks/coverage_page.py`` writes the page again."""
    assert coverage.PAGE.read_text(encoding="utf-8") == coverage.render_page()


def test_every_failure_is_on_the_page(coverage: Any) -> None:
    rows = set(coverage.PAGE.read_text(encoding="utf-8").splitlines())
    for path in coverage.RESULTS_BY_TARGET.values():
        for key, one in json.loads(path.read_text())["pairs"].items():
            listed = any(row.startswith(f"| {key} | ") for row in rows)
            assert listed or coverage.is_judged(one), key
    for part in json.loads((RESULTS / "derive-coverage.json").read_text()).values():
        for name, one in part.items():
            listed = any(row.startswith(f"| {name} | {one['result']} | ") for row in rows)
            assert listed or one["result"] in ("complete", "as given"), name


def test_long_reasons_are_truncated(coverage: Any) -> None:
    assert coverage._shorten("a | b\n c") == "a \\| b c"
    assert coverage._shorten("x" * 200) == "x" * 100 + "..."
