"""TensorFlow Lite: programs with static shapes in three precisions, judged at that shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")
pytest.importorskip("tensorflow")

from equipoise.convert.core.errors import WorkerError
from equipoise.validators.core.request import Request
from equipoise.validators.core.tolerance import DEFAULTS
from equipoise.validators.export.export import ExportRequest, ExportResult, export_model
from equipoise.validators.judgement.results import Verdict
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.runtime.remote import RemoteModel

pytestmark = [pytest.mark.transformers, pytest.mark.slow]

ROOT = Path(__file__).parents[3] / "fixtures" / "tasks"
MODELS = ["fill-mask", "image-classification"]


def export(
    name: str, out: Path, workers: WorkerPool, precision: str = "float32", **options: object
) -> ExportResult:
    bounds = DEFAULTS["int8"] if options else None
    request = Request(ROOT / name, precision=precision, tolerance=bounds, divergence=False)
    return export_model(
        ExportRequest(request, out, "tflite", ways=["export"], options=options), workers
    )


@pytest.mark.parametrize("name", MODELS)
def test_float32(name: str, workers: WorkerPool, tmp_path: Path) -> None:
    found = export(name, tmp_path / "out", workers)
    assert found.verdict in (Verdict.IDENTICAL, Verdict.WITHIN_NOISE)
    assert found.report is not None
    (result,) = found.report.backends
    assert [case.case for case in result.cases] == ["fixed"]
    assert result.about["implementation"] == "tf.lite.Interpreter"
    shapes = {key: about["shape"] for key, about in found.artifact.inputs.items()}
    assert all(isinstance(size, int) for shape in shapes.values() for size in shape)
    shape_note = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
    assert f"sizes for good: {shape_note}" in found.artifact.notes
    # Another size is refused: the interpreter would take it.
    program = RemoteModel(workers.get("tflite"), "tflite", "", tmp_path / "out" / "model.tflite")
    wrong = {key: np.zeros([1, *shape[1:]], np.float32) for key, shape in shapes.items()}
    with pytest.raises(WorkerError, match="the program was exported for"):
        program.run(wrong)
    program.drop()


@pytest.mark.parametrize("name", MODELS)
def test_float16(name: str, workers: WorkerPool, tmp_path: Path) -> None:
    found = export(name, tmp_path / "out", workers, "float16")
    assert found.verdict in (Verdict.IDENTICAL, Verdict.WITHIN_NOISE)
    assert found.report is not None
    assert found.report.backends[0].about["precision"] == "float16"
    assert "weights are stored as float16, and computed with in float32" in found.artifact.notes


@pytest.mark.parametrize("name", MODELS)
def test_int8(name: str, workers: WorkerPool, tmp_path: Path) -> None:
    found = export(name, tmp_path / "out", workers, quantize="int8-dynamic")
    assert found.verdict is Verdict.DECISION_SAFE
    assert found.report is not None
    assert found.report.backends[0].about["precision"] == "int8"
    (note,) = (one for one in found.artifact.notes if "are int8" in one)
    assert int(note.split()[0]) > 0


def test_refused(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Models without a static-shape program, and unsupported precisions, are refused with an explanation."""
    out = tmp_path / "out"
    outcome = cli("export", ROOT / "text-generation", out, "--to", "tflite", "--no-validate")
    assert outcome.code == 2
    assert "sizes, and the target's programs have one" in outcome.err
    outcome = cli(
        "export", ROOT / "fill-mask", out, "--to", "stablehlo", "--quantize", "int8-dynamic"
    )
    assert outcome.code == 2
    assert "stablehlo has no int8 weights" in outcome.err
    assert list(tmp_path.iterdir()) == []
