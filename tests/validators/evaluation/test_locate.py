"""The look inside a backend: what is said where modules cannot be captured, or belong to a cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from task_models import ROOT

pytestmark = [pytest.mark.transformers, pytest.mark.slow]
BERT = ROOT / "tasks" / "text-classification"
BACKEND = Path(__file__).parents[1] / "faulty" / "outputs_alone.py"


def test_modules_that_cannot_be_captured_are_told(cli: Callable[..., Any], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ("--backends", BACKEND, "--cases", "single", "--threads", 1, "--json", report)
    done = cli("validate", BERT, *options, "--repro", tmp_path / "repro")
    assert done.code == 1
    (result,) = json.loads(report.read_text())["backends"]
    (note,) = [note for note in result["notes"] if "its modules cannot be seen" in note]
    assert note in done.out
    assert result["divergence"] is None
    assert not (tmp_path / "repro").exists()


def test_a_backend_of_a_file_has_its_own_interpreter(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 9\n")
    python.chmod(0o755)
    options = ("--backends", BACKEND, "--cases", "single", "--threads", 1)
    done = cli("validate", BERT, *options, "--env", f"{BACKEND}={python}")
    assert done.code == 3
    assert "the worker ended during 'hello' with code 9" in done.out
