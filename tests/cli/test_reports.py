"""Reports, goldens and pictures replace what Equipoise wrote, and nothing of the user's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.convert.core.errors import OutputError
from equipoise.validators.matrix import to_markdown
from equipoise.validators.pipeline_io import to_json

MODEL = Path(__file__).parents[2] / "fixtures" / "tasks" / "text-classification"


@pytest.mark.parametrize(
    ("command", "option"),
    [
        *(("validate", one) for one in ("--report", "--junit", "--json")),
        *(("matrix", one) for one in ("--markdown", "--json")),
    ],
)
def test_a_report_over_a_file_of_the_user(
    command: str, option: str, cli: Callable[..., Any], tmp_path: Path
) -> None:
    """It is refused before anything is run."""
    mine = tmp_path / "notes.json"
    mine.write_text('{"thesis": "years of work"}')
    outcome = cli(command, MODEL, option, mine)
    assert outcome.code == 2
    assert f"{mine}: the file exists, and Equipoise did not write it" in outcome.err
    assert mine.read_text() == '{"thesis": "years of work"}'
    assert cli(command, MODEL, option, tmp_path).code == 2
    assert list(tmp_path.iterdir()) == [mine]


def test_an_architecture_file_over_a_file_of_the_user(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    mine = tmp_path / "pyproject.toml"
    mine.write_text("[project]\n")
    outcome = cli("derive", "bert", "--output", mine, "--force")
    assert outcome.code == 2
    assert "Equipoise did not write it" in outcome.err
    assert mine.read_text() == "[project]\n"


def test_a_golden_in_a_folder_of_the_user(cli: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "thesis.txt").write_text("years of work")
    outcome = cli("validate", MODEL, "--save-golden", tmp_path)
    assert outcome.code == 2
    assert "found:    thesis.txt" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_pictures(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for colour in ("red", "blue"):
        to_json(image.new("RGB", (2, 2), colour), tmp_path)
        with image.open(tmp_path / "0.png") as found:
            assert found.getpixel((0, 0)) == image.new("RGB", (1, 1), colour).getpixel((0, 0))
    image.new("RGB", (2, 2), "green").save(tmp_path / "1.png")
    before = (tmp_path / "1.png").read_bytes()
    with pytest.raises(OutputError, match="Equipoise did not write it"):
        to_json(image.new("RGB", (2, 2), "red"), tmp_path, "1")
    assert (tmp_path / "1.png").read_bytes() == before


def test_the_table_names_its_generator() -> None:
    assert to_markdown([]).startswith("<!-- generator: equipoise -->\n")
    assert json.dumps(to_markdown([]))
