"""The verdict of ``equipoise export`` catches targets that export wrong programs silently."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")


pytestmark = [
    pytest.mark.transformers,
    pytest.mark.slow,
]

ROOT = Path(__file__).parents[2] / "fixtures" / "tasks"
FAULTY = Path(__file__).parent / "faulty"


def faulty_target(fault: str) -> Path:
    """Returns the file of a target that exports wrong programs."""
    return FAULTY / f"{fault}.py"


@pytest.mark.parametrize(
    ("fault", "model", "verdict", "reason"),
    [
        ("ignored_mask", "text-classification", "diverged", "batch: logits"),
        ("epsilon", "text-classification", "decision-safe", "logits: rms error"),
        ("frozen_length", "text-classification", "diverged", "below-power: logits"),
        ("fixed_axis", "text-classification", "failed", "Got invalid dimensions for input"),
        ("dropped_output", "question-answering", "failed", "KeyError('end_logits')"),
    ],
)
def test_fault_is_caught(
    fault: str,
    model: str,
    verdict: str,
    reason: str,
    cli: Callable[..., Any],
    tmp_path: Path,
) -> None:
    outcome = cli(
        *(
            "export",
            ROOT / model,
            tmp_path / "out",
            "--to",
            faulty_target(fault),
            "--ways",
            "dynamo",
        ),
        *("--threads", 1),
    )
    assert outcome.code == (3 if verdict == "failed" else 1), outcome.out + outcome.err
    # The artifact is there, and marked.
    found = json.loads((tmp_path / "out" / "artifact.json").read_text())
    assert found["verdict"]["verdict"] == verdict
    (tried,) = found["tried"]
    assert tried["verdict"] == verdict
    assert reason in tried["reason"]
    assert (tmp_path / "out" / "model.onnx").is_file()


def test_decision_safe_may_be_accepted(cli: Callable[..., Any], tmp_path: Path) -> None:
    outcome = cli(
        *(
            "export",
            ROOT / "text-classification",
            tmp_path / "out",
            "--to",
            faulty_target("epsilon"),
        ),
        *("--ways", "dynamo", "--threads", 1, "--no-strict"),
    )
    assert outcome.code == 0, outcome.out + outcome.err
    assert "verdict: decision-safe" in outcome.out


def test_the_next_strategy_is_tried(cli: Callable[..., Any], tmp_path: Path) -> None:
    """A strategy whose program diverges is rejected, and the next one that passes is kept."""
    outcome = cli(
        *(
            "export",
            ROOT / "text-classification",
            tmp_path / "out",
            "--to",
            faulty_target("first_way"),
        ),
        *("--cases", "batch", "--threads", 1, "--json"),
    )
    assert outcome.code == 0, outcome.err
    tried = outcome.data["tried"]
    assert [(one["way"], one["verdict"]) for one in tried] == [
        ("dynamo", "diverged"),
        ("transformers", "within noise"),
    ]
    assert outcome.data["exporter"]["way"] == "transformers"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not any(name.startswith(("way-", ".")) for name in names)
