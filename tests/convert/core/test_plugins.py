"""Plug-ins are found by file name and by entry point; look-ups are cached."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from equipoise.convert.core import plugins
from equipoise.convert.core.plugins import PluginFolder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    root = tmp_path / "someplugins"
    (root / "vision").mkdir(parents=True)
    for name in ("__init__", "_helper", "base", "two_words", "vision/__init__", "vision/one"):
        (root / f"{name}.py").write_text(f"PLUGIN = {name!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "someplugins"
    for name in [name for name in sys.modules if name.startswith("someplugins")]:
        del sys.modules[name]
    PluginFolder("").refresh()


def test_modules_are_named_by_their_files(package: str) -> None:
    folder = PluginFolder(package, attribute="PLUGIN")
    assert folder.names() == ("two-words",)
    assert folder.load("two-words") == "two_words"
    assert str(folder.module("two-words").__file__).endswith("two_words.py")
    with pytest.raises(KeyError):
        folder.load("base")


def test_subfolders_and_modules_without_an_attribute(package: str) -> None:
    folder = PluginFolder(package, subfolders=("vision",))
    assert folder.names() == ("one", "two-words")
    assert folder.load("one").PLUGIN == "vision/one"


def test_entry_points_come_after_the_packages_own(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Point:
        def __init__(self, name: str) -> None:
            self.name = name
            self.module = "json"

        def load(self) -> object:
            return f"loaded {self.name}"

    def entry_points(group: str) -> list[Point]:
        calls.append(group)
        return [Point("zeta"), Point("alpha"), Point("two-words")]

    monkeypatch.setattr(plugins, "entry_points", entry_points)
    folder = PluginFolder(package, "some.group", "PLUGIN")
    folder.refresh()
    assert folder.names() == ("two-words", "alpha", "zeta")
    assert folder.load("alpha") == "loaded alpha"
    assert folder.load("two-words") == "two_words"
    assert folder.module("zeta").__name__ == "json"
    assert calls == ["some.group"]  # looked up once
