"""Tasks on a GPU, if there is one, and the errors if there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import numpy as np
from task_models import FIXTURES, ROOT

from equipoise.cli.main import run
from equipoise.validators.core.precision import TF32
from equipoise.validators.core.request import Request
from equipoise.validators.judgement.metrics import unit_roundoff
from equipoise.validators.judgement.results import Verdict
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.runtime.remote import RemoteModel
from equipoise.validators.validate import validate

BERT = ROOT / "tasks" / "text-classification"
FINE = (Verdict.IDENTICAL, Verdict.WITHIN_NOISE)

needs_gpu = [pytest.mark.cuda, pytest.mark.transformers]  # tests/conftest.py deselects them


@pytest.fixture(scope="module")
def workers() -> Iterator[WorkerPool]:
    with WorkerPool(time_limit=300) as found:
        yield found


@pytest.mark.parametrize("tf32", [False, True], ids=["fp32", "tf32"])
@pytest.mark.parametrize("name", FIXTURES)
@pytest.mark.filterwarnings("ignore")
class TestGpu:
    pytestmark = needs_gpu

    def test_task(self, name: str, tf32: bool, workers: WorkerPool) -> None:
        request = Request(ROOT / "tasks" / name, backends=["pytorch"], device="cuda", tf32=tf32)
        (result,) = validate(request, workers).backends
        assert result.about["device"].startswith("cuda")
        assert result.about["tf32"] is tf32
        assert result.verdict in FINE, result


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["text-classification", "text-generation", "image-classification"])
@pytest.mark.filterwarnings("ignore")
class TestHalf:
    pytestmark = needs_gpu

    def test_task(self, name: str, precision: str, workers: WorkerPool) -> None:
        request = Request(
            ROOT / "tasks" / name, backends=["pytorch"], device="cuda", precision=precision
        )
        (result,) = validate(request, workers).backends
        assert result.about["precision"] == precision
        assert result.verdict in (*FINE, Verdict.DECISION_SAFE), result


@pytest.mark.transformers
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_no_gpu_is_a_failure_of_the_backend(tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    arguments = ["validate", str(BERT), "--backends", "pytorch", "--device", "cuda"]
    assert run([*arguments, "--cases", "single", "--json", str(output)]) == 3
    (result,) = json.loads(output.read_text())["backends"]
    assert result["verdict"] == "failed"
    assert "CUDA" in result["failure"] or "NVIDIA" in result["failure"]


@pytest.mark.transformers
def test_no_fall_back_to_the_cpu(workers: WorkerPool, tmp_path: Path) -> None:
    """A provider that ONNX Runtime lacks is an error; no other provider is used."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    wanted = "CUDAExecutionProvider"
    if wanted in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime has CUDA here")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])
    node = onnx.helper.make_node("Neg", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value], [other])
    opset = [onnx.helper.make_opsetid("", 18)]
    file = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), file)
    with pytest.raises(Exception, match=f"does not have {wanted}"):
        RemoteModel(workers.get("onnx"), "onnx", "", file, device="cuda")
    model = RemoteModel(workers.get("onnx"), "onnx", "", file)
    assert model.about["provider"] == "CPUExecutionProvider"
    np.testing.assert_array_equal(model.run({"x": np.float32([1, -2])})["y"], [-1, 2])


def test_rounding_of_tf32() -> None:
    request = Request(BERT, tf32=True)
    assert request.rounding == TF32
    assert unit_roundoff(request.rounding) == 2.0**-11
    assert Request(BERT, tf32=True, precision="bfloat16").rounding == "bfloat16"
