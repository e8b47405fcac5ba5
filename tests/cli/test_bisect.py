"""Exit codes and table of ``bisect``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sample_reports

from equipoise.validators.judgement.results import BackendResult, ModuleError

FOLDER = Path(__file__).parents[2] / "fixtures" / "tasks" / "text-classification"
GOOD = ModuleError("h.0.ln", 1e-7, 1e-7, 1.0, beyond=False)
BAD = ModuleError("h.0.attn", 3.1e-6, 1e-7, 31.0, beyond=True)
WITHIN = sample_reports.backend(depth=(GOOD,))
PASSING_BUT_BEYOND = sample_reports.backend(depth=(GOOD, BAD))
OUTCOMES: dict[str, tuple[BackendResult, int]] = {
    "within noise": (WITHIN, 0),
    "a module beyond noise, outputs within": (PASSING_BUT_BEYOND, 1),
    "outputs beyond noise, no module known": (replace(sample_reports.safe_backend(), depth=()), 1),
    "diverged": (sample_reports.diverged_backend(), 1),
    "failed": (sample_reports.failed_backend(), 3),
    "not run": (sample_reports.absent_backend(), 3),
    "quantized": (replace(PASSING_BUT_BEYOND, quantized="int8-dynamic"), 0),
}


@pytest.fixture
def bisect(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[BackendResult], Any]:
    """Returns a function that shows a result as ``bisect`` does."""

    def call(result: BackendResult) -> Any:
        report = sample_reports.report(result)
        monkeypatch.setattr("equipoise.validators.validate.validate", lambda *_: report)
        return cli("bisect", FOLDER)

    return call


@pytest.mark.parametrize("name", OUTCOMES)
def test_exit_codes(name: str, bisect: Callable[[BackendResult], Any]) -> None:
    result, code = OUTCOMES[name]
    assert bisect(result).code == code


def test_table(bisect: Callable[[BackendResult], Any]) -> None:
    lines = [line.split() for line in bisect(PASSING_BUT_BEYOND).out.splitlines()]
    assert ["module", "error", "noise", "ratio"] in lines
    assert ["h.0.ln", "1e-07", "1e-07", "1.00"] in lines
    assert ["h.0.attn", "3.1e-06", "1e-07", "31.00", "beyond", "noise"] in lines
