"""A failure of one backend is reported as such: the others go on, and the exit code is nonzero."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

pytest.importorskip("torch")

from task_models import ROOT

from equipoise.cli.main import run
from equipoise.validators.judgement.verdict import NO_FINITE_VALUES

pytestmark = [pytest.mark.transformers, pytest.mark.slow]

BERT = str(ROOT / "tasks" / "text-classification")
FAULTY = Path(__file__).parent / "faulty"
LAST = ["--cases", "single,batch", "--threads", "1"]


def validate(tmp_path: Path, *backends: str, options: list[str] | None = None) -> tuple[int, dict]:  # type: ignore[type-arg]
    output = tmp_path / "report.json"
    names = ",".join(str(FAULTY / f"{name}.py") if name != "pytorch" else name for name in backends)
    code = run(
        ["validate", BERT, "--backends", names, *LAST, "--json", str(output), *(options or [])]
    )
    report = json.loads(output.read_text())
    return code, {result["label"]: result for result in report["backends"]}


@pytest.mark.parametrize(
    ("fault", "options", "message"),
    [
        ("crash", [], "the worker crashed during 'run' (signal 11)"),
        (
            "hang",
            ["--time-limit", "12"],
            "within 12 s and was ended",
        ),
        ("memory", [], "ran out of memory"),
    ],
)
def test_other_backends_go_on(fault: str, options: list[str], message: str, tmp_path: Path) -> None:
    code, results = validate(tmp_path, fault, "pytorch", options=options)
    assert code == 3
    assert results[fault]["verdict"] == "failed"
    assert message in results[fault]["failure"]
    assert results["pytorch"]["verdict"] == "identical"
    if fault != "memory":
        assert [case["verdict"] for case in results[fault]["cases"]] == ["identical", "failed"]


def test_a_model_of_nan_proves_nothing(tmp_path: Path) -> None:
    """Both sides return NaN, bit by bit equal; this must not count as parity."""
    model = tmp_path / "model"
    shutil.copytree(BERT, model)
    weights = load_file(model / "model.safetensors")
    weights["classifier.bias"] = np.full_like(weights["classifier.bias"], np.nan)
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    junit, output = tmp_path / "junit.xml", tmp_path / "report.json"
    files = ["--junit", str(junit), "--json", str(output)]
    assert run(["validate", str(model), "--backends", "pytorch", *LAST, *files]) == 3
    (found,) = json.loads(output.read_text())["backends"]
    assert {case["verdict"] for case in found["cases"]} == {"failed"}
    errors = ElementTree.parse(junit).getroot().iter("error")
    assert {one.get("message") for one in errors} == {f"logits: {NO_FINITE_VALUES}"}


def test_output_on_stdout_is_no_failure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, results = validate(tmp_path, "noisy")
    assert code == 0
    assert results["noisy"]["verdict"] == "identical"
    assert "garbage" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'this is no worker at all, it only talks'", "does not answer as a worker"),
        ("exit 9", "the worker ended during 'hello' with code 9"),
    ],
)
def test_an_interpreter_that_is_no_python_is_reported(
    script: str, message: str, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    options = ["--env", f"pytorch={python}"]
    names = [f"tensorflow={python}"]
    output = tmp_path / "report.json"
    arguments = ["validate", BERT, "--backends", "tensorflow", "--env", *names, *LAST]
    assert run([*arguments, "--json", str(output)]) == 3
    (result,) = json.loads(output.read_text())["backends"]
    assert message in result["failure"]
    assert run(["validate", BERT, "--backends", "pytorch", *options, *LAST]) == 2


def test_memory_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With less memory than PyTorch needs, the report states that the reference cannot run."""
    assert run(["validate", BERT, *LAST, "--memory-limit", "100000000"]) == 3
    assert "worker" in capsys.readouterr().err
