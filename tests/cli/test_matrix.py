"""Exit codes of ``matrix``: those of ``validate``, over all models."""

from __future__ import annotations

from collections.abc import Callable
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
    monkeypatch.setattr("equipoise.validators.matrix.validate_models", lambda *_, **__: iter(rows))
    assert cli("matrix", FOLDER, *options).code == code
