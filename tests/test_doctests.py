"""Runs the examples in docstrings of all packages and tools."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

from equipoise.convert.core.plugins import load_file

ROOT = Path(__file__).parents[1]


def modules_with_examples(*folders: str) -> list[str]:
    """Returns the paths of modules that contain a doctest, relative to the repository."""
    return [
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if ">>> " in path.read_text(encoding="utf-8")
    ]


def run_examples(module: object) -> None:
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)  # type: ignore[arg-type]
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize(
    "path", modules_with_examples("convert", "exporters", "validators", "fleet", "cli")
)
def test_examples_of_a_package(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    name = ".".join(["equipoise", *Path(path).with_suffix("").parts])
    run_examples(import_module(name.removesuffix(".__init__")))


@pytest.mark.parametrize("path", modules_with_examples("benchmarks", "tools"))
def test_examples_of_a_tool(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / Path(path).parts[0])  # the package benchmarks/faults
    monkeypatch.syspath_prepend(ROOT / Path(path).parent)
    run_examples(load_file(ROOT / path))
