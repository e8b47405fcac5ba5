"""The code keeps the limits of ``tools/house.py``, and docs/architecture.md matches the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from equipoise.convert.core.plugins import load_file

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATH = re.compile(r"`([\w./-]+/[\w.-]*)(?:::([\w.]+))?`")
"""A path that contains a slash, and an optional name defined there."""
MIN_QUESTIONS = 40


@pytest.fixture(scope="module")
def house() -> ModuleType:
    return load_file(ROOT / "tools" / "house.py")


def references() -> list[tuple[str, str]]:
    """Returns the paths of the page below the drawing with the names that they should define."""
    after = PAGE.partition("<!-- drawing: end -->")[2]
    return sorted(set(PATH.findall(after)))


@cache
def definitions(path: Path) -> frozenset[str]:
    """Returns the functions, classes, methods and constants of a module."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = (one for one in node.body if isinstance(one, ast.FunctionDef))
            found |= {f"{node.name}.{one.name}" for one in inner}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {one.id for one in targets if isinstance(one, ast.Name)}
    return frozenset(found)


@pytest.mark.parametrize("name", ["fleet", "validators", "exporters", "convert", "cli"])
def test_package_keeps_the_limits(house: ModuleType, name: str) -> None:
    assert house.find_violations(house.read_package(name)) == []


def test_circles_are_found(house: ModuleType) -> None:
    graph = {"a": frozenset({"b"}), "b": frozenset({"a"})}
    assert house.find_circles(graph) == [["a", "b"]]


def test_drawing_of_the_page(house: ModuleType) -> None:
    """``python tools/house.py --write`` writes it again."""
    drawing = house.draw_structure([house.read_package(name) for name in house.MAX_FLOORS])
    begin, end = house.BEGIN, house.END
    assert f"{begin}\n```text\n{drawing}\n```\n{end}" in PAGE


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/decisions/0009-folders-by-floors.md"])
def test_limits_on_other_pages(house: ModuleType, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    floors = house.MAX_FLOORS
    assert floors["validators"] == floors["exporters"]
    assert re.search(rf"\b{floors['validators']}\b[^.]* `validators` and `exporters`", text)
    assert re.search(rf"\b{floors['convert']} in `convert`", text)
    assert re.search(rf"\b{house.MAX_MODULES_IN_A_FOLDER}\s+modules", text)


@pytest.mark.parametrize(("path", "name"), references(), ids="::".join)
def test_reference_of_the_page_exists(path: str, name: str) -> None:
    assert (ROOT / path).exists()
    if name:
        assert name in definitions(ROOT / path)


def test_page_answers_many_questions_about_all_packages() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > MIN_QUESTIONS
    for package in ("convert", "exporters", "validators", "fleet", "cli"):
        assert any(f"`{package}/" in row for row in rows)
