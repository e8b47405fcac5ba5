"""docs/what-it-reads.md holds the tables of kinds that the code has."""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.containers import container_names
from equipoise.convert.folders.file_kinds import FILE_KINDS, ZIP_KINDS
from equipoise.convert.folders.folder_kinds import FOLDER_KINDS

PAGE = Path(__file__).parents[3] / "docs" / "what-it-reads.md"


def rows(heading: str) -> list[list[str]]:
    """Returns the rows of the table below a heading."""
    section = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_every_kind_of_folder_stands_there() -> None:
    found = [(name.strip("`"), what) for name, what, _, _ in rows("Folders")]
    assert found == [(kind.name, kind.what) for kind in FOLDER_KINDS]


def test_what_happens_is_what_the_code_does() -> None:
    for kind, (_, _, signs, happens) in zip(FOLDER_KINDS, rows("Folders"), strict=True):
        assert happens.startswith(str(kind.treatment)), kind.name
        assert all(f"`{sign}`" in signs for sign in kind.signs[:3]), kind.name


def test_every_kind_of_file_stands_there() -> None:
    found = [(name.strip("`"), what) for name, what, _ in rows("Files that hold no tensors")]
    assert found == [(kind.name, kind.what) for kind in (*FILE_KINDS, *ZIP_KINDS)]


def test_every_container_stands_there() -> None:
    assert len(rows("Containers")) == len(container_names())
