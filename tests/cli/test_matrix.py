"""Exit codes of ``matrix``: those of ``validate``, over all models."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import sample_reports

from equipoise.validators.matrix import ModelRow

FOLDER = Path(__file__).parents[2] / "fixtures" / "tasks" / "text-classification"
FINE = ModelRow("fine", sample_reports.report(sample_reports.backend()))
SAFE = ModelRow("safe", sample_reports.report(sample_reports.safe_backend()))
DIVERGED = ModelRow("diverged", sample_reports.report(sample_reports.diverged_backend()))
FAILED = ModelRow("failed", sample_reports.report(sample_reports.failed_backend()))
ALONE = ModelRow("alone", sample_reports.report(sample_reports.absent_backend()))
BROKEN = ModelRow("broken", None, "it cannot be read")


@pytest.mark.parametrize(
    ("rows", "options", "code"),
    [
        ([FINE, FINE], [], 0),
        ([FINE, SAFE], [], 1),
        ([FINE, SAFE], ["--no-strict"], 0),
        ([FAILED, FINE, DIVERGED], [], 1),
        ([FINE, FAILED], [], 3),
        ([ALONE, FINE], [], 3),
        ([FINE, BROKEN], [], 3),
    ],
)
def test_exit_codes(
    rows: list[ModelRow],
    options: list[str],
    code: int,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("equipoise.fleet.matrix.validate_models", lambda *_: nullcontext(rows))
    assert cli("matrix", FOLDER, *options).code == code


def test_a_model_that_cannot_be_read(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row says why; the JSON has the whole message, and nothing stays in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    outcome = cli("matrix", tmp_path / "broken", "--json", tmp_path / "all.json")
    assert outcome.code == 3
    assert "broken: " in outcome.err
    (found,) = json.loads((tmp_path / "all.json").read_text())
    assert (found["generator"], found["model"]) == ("equipoise", "broken")
    assert "config.json" in found["error"]
    assert "not valid JSON" in outcome.out
    assert list((tmp_path / "cache" / "equipoise" / "matrix").iterdir()) == []


def test_an_interpreter_that_is_not_there(cli: Callable[..., Any]) -> None:
    outcome = cli("matrix", FOLDER, "--env", "oracle=/nowhere/python")
    assert (outcome.code, "there is no such interpreter" in outcome.err) == (2, True)
