"""Where nothing is compared there is no verdict; what was asked for and is not there is bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.cli import _worker_options
from equipoise.convert.core.errors import LimitError, WorkerError
from equipoise.validators.models.quantization import quantization_of
from equipoise.validators.models.sources import ModelSource, with_distinct_labels

FOLDER = Path(__file__).parents[2] / "fixtures" / "tasks" / "text-classification"


@pytest.mark.transformers
@pytest.mark.slow
def test_no_other_backend_is_exit_code_3(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    outcome = cli("validate", FOLDER, "--threads", 1, "--json", tmp_path / "report.json")
    assert outcome.code == 3
    assert "verdict: nothing compared" in outcome.out
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["verdict"] == "nothing compared"
    assert {one["verdict"] for one in values["backends"]} == {"absent"}


@pytest.mark.parametrize("command", ["validate", "matrix", "bisect"])
def test_an_interpreter_that_is_not_there_is_bad_input(
    command: str, cli: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = cli(command, FOLDER, "--env", f"oracle={tmp_path / 'python'}")
    assert outcome.code == 2
    assert "there is no such interpreter" in outcome.err


def test_a_time_limit_says_nothing_about_the_model() -> None:
    assert (WorkerError("").exit_code, LimitError("").exit_code) == (2, 3)


def write_artifact(folder: Path, settings: dict[str, Any]) -> Path:
    folder.mkdir()
    manifest = {"version": 1, "target": "onnx", "program": "model.onnx", "task": "fill-mask"}
    (folder / "artifact.json").write_text(json.dumps({**manifest, "settings": settings}))
    (folder / "model.onnx").write_bytes(b"\x08\x07")
    return folder / "model.onnx"


def test_programs_know_that_they_are_quantized(tmp_path: Path) -> None:
    assert quantization_of(write_artifact(tmp_path / "a", {"quantize": "int8-dynamic"})) == (
        "int8-dynamic"
    )
    assert quantization_of(write_artifact(tmp_path / "b", {"quantize": None})) == ""
    bare = tmp_path / "bare.onnx"
    for name, said in (("MatMulInteger", "the operator MatMulInteger"), ("MatMul", "")):
        # Longer than a block, with the name across the boundary of two.
        bare.write_bytes(b"\0" * ((1 << 24) - 5) + name.encode() + b"\0" * 9)
        assert quantization_of(bare) == said


def test_artifacts_of_one_name_have_labels_of_their_own() -> None:
    paths = ("out/fp16/model.onnx", "out/fp32/model.onnx", "out/other.onnx")
    found = with_distinct_labels([ModelSource("onnx", Path(path)) for path in paths])
    assert [one.label for one in found] == ["onnx (fp16/model.onnx)", "onnx (fp32/model.onnx)", ""]


def test_a_memory_limit_that_is_too_small_is_said_without_a_traceback(
    cli: Callable[..., Any],
) -> None:
    outcome = cli("validate", FOLDER, "--backends", "torchscript", "--memory-limit", 1000)
    assert outcome.code == 3
    assert "ran out of memory" in outcome.err
    assert "--memory-limit" in outcome.err
    assert "Traceback" not in outcome.err


def test_progress_in_a_pipe_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 1.0, 11.0, 11.0, 12.0, 25.0, 25.0])
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    with _worker_options.status_line() as tell:
        for text in ("loading", "single", "batch", "long"):
            tell(text)
    assert capsys.readouterr().err == "... single\n... long\n"
