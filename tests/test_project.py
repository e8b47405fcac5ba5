"""The project's own shape: what the build ships, what may import what."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("convert", "exporters", "validators", "cli")
FOLDERS = (*SHIPPED, "fixtures")
BASE = {"numpy", "ml_dtypes", "safetensors", "h5py", "msgpack"}
# Imported inside functions, by the call that needs them and says so.
EXTRAS = {
    "convert/from_pretrained.py",
    "convert/hub.py",
    "convert/derive/kinds.py",
    "convert/derive/models.py",
    "convert/derive/reads.py",
}


def settings() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]


def test_every_package_is_shipped() -> None:
    """An unlisted subpackage works in an editable install and is missing from the wheel."""
    found = {
        "equipoise." + ".".join(path.parent.relative_to(ROOT).parts)
        for folder in SHIPPED
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert found == set(settings()["setuptools"]["packages"])  # type: ignore[index]


def test_type_checkers_see_every_package() -> None:
    for folder in FOLDERS:
        link = ROOT / "tests" / "typing_root" / "equipoise" / folder
        assert link.resolve() == ROOT / folder
        assert (ROOT / folder / "py.typed").is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "convert").rglob("*.py")), ids=str)
def test_converting_needs_the_base_dependencies_alone(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.partition(".")[0])
    others = imported - BASE - {"equipoise"} - sys.stdlib_module_names
    assert not others or str(path.relative_to(ROOT)) in EXTRAS


def test_no_line_was_left_for_later() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    for path in ROOT.rglob("*.py"):
        if any(
            part.startswith(".") or part == "typing_root" for part in path.parts[len(ROOT.parts) :]
        ):
            continue
        text = path.read_text()
        assert not any(mark in text for mark in marks), path
