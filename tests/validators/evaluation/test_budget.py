"""A budget orders the cases by what they can find, and names those that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from task_models import ROOT, folder

from equipoise.validators.core import budget as budgets
from equipoise.validators.core.budget import Budget
from equipoise.validators.core.types import Batch, Case
from equipoise.validators.evaluation.further_cases import all_cases
from equipoise.validators.tasks.base import infer_task, load_samples

pytestmark = pytest.mark.transformers
BERT = ROOT / "tasks" / "text-classification"


def batches(*names: str) -> list[Batch]:
    return [Batch(Case(name, ()), {}) for name in names]


def test_order() -> None:
    given = batches("single", "samples 4", "long", "batch", "padded")
    ordered = [batch.case.name for batch in Budget(9).order(given)]
    assert ordered == ["batch", "long", "padded", "single", "samples 4"]
    assert Budget().order(given) == given


def test_names_of_the_order_exist() -> None:
    found = set()
    for name in (
        *("text-classification", "translation", "object-detection"),
        *("image-classification-resnet", "audio-classification"),
    ):
        model = folder(name)
        task = infer_task(model)
        found |= {case.name for case in all_cases(task, model, load_samples(task, model))}
    assert set(budgets.REACH) <= found


def test_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets.time, "monotonic", lambda: 107.0)
    assert not Budget(None, 0.0).is_spent()
    assert not Budget(8, 100.0).is_spent()
    assert Budget(8, 100.0).is_spent(0.5)
    assert Budget(6, 100.0).is_spent()


@pytest.mark.slow
def test_what_does_not_fit_is_named(cli: Callable[..., Any], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ("--backends", "pytorch", "--threads", 1, "--json", report)
    done = cli("validate", BERT, "--budget", "0.01s", *options)
    assert done.code == 0
    values = json.loads(report.read_text())
    assert [case["case"] for case in values["backends"][0]["cases"]] == ["batch"]
    (note,) = values["reference"]["notes"]
    assert note.startswith("the budget of 0.01 seconds is spent, so these cases were not run: long")
    assert "single" in note
    assert note in done.out
    assert "--budget 0.01s" in values["command"]


@pytest.mark.parametrize("text", ["0", "-1s", "soon", "1 year"])
def test_no_duration(text: str, cli: Callable[..., Any]) -> None:
    done = cli("validate", BERT, "--budget", text)
    assert done.code == 2
    assert "is not a duration; use 120s, 5m" in done.err
