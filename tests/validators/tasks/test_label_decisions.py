"""What a person reads off the logits of a classifier: one label, several labels, or a number."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from task_models import ROOT

from equipoise.validators.core.types import Batch, Case, Decision
from equipoise.validators.judgement.verdict import decision_holds
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import find_task

LOGITS = np.array([[2.0, -0.25, 0.5], [-1.0, -3.0, -2.0]], np.float32)


@pytest.fixture
def decide(tmp_path: Path) -> object:
    def call(
        problem_type: str | None, logits: np.ndarray, task: str = "text-classification"
    ) -> list[Decision]:
        folder = tmp_path / str(problem_type)
        shutil.copytree(ROOT / "tasks" / task, folder)
        config = json.loads((folder / "config.json").read_text())
        config["id2label"] = {str(index): f"L{index}" for index in range(logits.shape[1])}
        if problem_type is not None:
            config["problem_type"] = problem_type
        (folder / "config.json").write_text(json.dumps(config))
        batch = Batch(Case("batch", ()), {})
        return find_task(task).decisions(ModelFolder(folder), batch, {"logits": logits})

    return call


def holds(decision: Decision, error: np.ndarray) -> bool:
    return decision_holds(decision, np.abs(error))


def test_one_label(decide) -> None:  # type: ignore[no-untyped-def]
    found = decide(None, LOGITS)
    assert [one.value for one in found] == ["L0", "L0"]
    assert holds(found[0], np.array([[0.74, 0.74, 0.74], [9, 9, 9]]))
    assert not holds(found[0], np.array([[0.76, 0.0, 0.0], [0, 0, 0]]))


@pytest.mark.parametrize("task", ["text-classification", "image-classification"])
def test_several_labels(decide, task: str) -> None:  # type: ignore[no-untyped-def]
    """Each label's side of its threshold counts, that of a label that is not the best too."""
    found = decide("multi_label_classification", LOGITS, task)
    assert [one.value for one in found] == [["L0", "L2"], []]
    assert holds(found[0], np.array([[1.9, 0.2, 0.4], [9, 9, 9]]))
    assert not holds(found[0], np.array([[0.0, 0.3, 0.0], [0, 0, 0]]))
    assert not holds(found[1], np.array([[0, 0, 0], [1.1, 0.0, 0.0]]))


def test_one_logit_is_a_label_or_none(decide) -> None:  # type: ignore[no-untyped-def]
    found = decide(None, np.array([[0.5], [-0.5]], np.float32))
    assert [one.value for one in found] == [["L0"], []]
    assert not holds(found[0], np.array([[0.6], [0.0]]))


def test_a_number(decide) -> None:  # type: ignore[no-untyped-def]
    """A thousandth of the number may differ; of numbers below 1, a thousandth."""
    found = decide("regression", np.array([[50.0], [0.1]], np.float32))
    assert [one.value for one in found] == [[50.0], [0.1]]
    assert holds(found[0], np.array([[0.049], [9.0]]))
    assert not holds(found[0], np.array([[0.051], [0.0]]))
    assert holds(found[1], np.array([[9.0], [0.0009]]))
    assert not holds(found[1], np.array([[0.0], [0.0011]]))
