"""The package's structure: what the build ships, and what may import what."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHIPPED = ("convert", "exporters", "validators", "fleet", "cli")
FOLDERS = (*SHIPPED, "fixtures")
BASE = {"numpy", "ml_dtypes", "safetensors", "h5py", "msgpack", "blake3", "google_crc32c"}


def settings() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]


def test_every_package_is_shipped() -> None:
    """An unlisted subpackage works in an editable install and is missing from the wheel."""
    found = {
        ".".join(("equipoise", *path.parent.relative_to(ROOT).parts))
        for folder in SHIPPED
        for path in (ROOT / folder).rglob("__init__.py")
    }
    found = {"equipoise" if name == "equipoise.cli._root" else name for name in found}
    assert found == set(settings()["setuptools"]["packages"])  # type: ignore[index]


def test_type_checkers_see_every_package() -> None:
    for folder in FOLDERS:
        link = ROOT / "tests" / "typing_root" / "equipoise" / folder
        assert link.resolve() == ROOT / folder
        assert (ROOT / folder / "py.typed").is_file()


def test_convert_imports_no_package_that_import_linter_does_not_know() -> None:
    """import-linter forbids frameworks by name; a new third-party package has to be listed there."""
    imported = set()
    for path in (ROOT / "convert").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    contracts = settings()["importlinter"]["contracts"]  # type: ignore[index]
    known = {name for one in contracts for name in one.get("forbidden_modules", ())}
    assert imported - {"equipoise"} - sys.stdlib_module_names <= BASE | known
