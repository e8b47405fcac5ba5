"""Artifacts for other programs: order of inputs, keywords, names of axes, layouts, and the README that calls them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from equipoise.exporters.target import find_target
from equipoise.validators.core.request import Request
from equipoise.validators.export.export import ExportRequest, export_model
from equipoise.validators.runtime.process import WorkerPool

pytestmark = pytest.mark.transformers

ROOT = Path(__file__).parents[2]
BERT = ROOT / "fixtures" / "tasks" / "text-classification"
ORDER = ["input_ids", "attention_mask", "token_type_ids"]
"""The first arguments of BERT's forward; its tokenizer has another order."""

BARE = """
import sys
from importlib.machinery import PathFinder
found = PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name.partition(".")[0] in {names!r} else found(name, *rest)
)
sys.meta_path[:] = [one for one in sys.meta_path if "editable" not in str(one)]
"""
ALONE = {
    "onnx": ("torch", "transformers", "tensorflow", "jax"),
    "torchscript": ("transformers", "onnxruntime", "tensorflow", "jax"),
    "torch-export": ("transformers", "onnxruntime", "tensorflow", "jax"),
    "stablehlo": ("transformers", "torch", "onnxruntime", "tensorflow"),
    "saved-model": ("transformers", "torch", "onnxruntime"),
    "tflite": ("transformers", "torch", "onnxruntime"),
}
"""Target -> what its programs do without, besides Equipoise."""


def export(target: str, model: Path, out: Path, workers: WorkerPool, **settings: Any) -> Any:
    """Exports a model without validation and returns the manifest."""
    cases = settings.pop("cases", None)
    request = Request(model, cases=cases, sentence=settings.pop("sentence", False))
    found = export_model(ExportRequest(request, out, target, judged=False, **settings), workers)
    return found.artifact


def expected_logits(rows: int, length: int) -> Any:
    """Returns what the model itself gives for inputs of ones."""
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(BERT).eval()
    ones = torch.ones(rows, length, dtype=torch.int64)
    with torch.no_grad():
        return model(ones, ones, ones).logits.numpy()


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
@pytest.mark.parametrize("target", ["torchscript", "torch-export"])
def test_calls_by_order_and_keyword(target: str, workers: WorkerPool, tmp_path: Path) -> None:
    """Inputs stand in the order of ``forward``; one case to judge does not freeze the batch at 1."""
    artifact = export(target, BERT, tmp_path / "out", workers, cases=["single"], dynamic=["batch"])
    assert list(artifact.inputs) == ORDER
    assert artifact.inputs["input_ids"]["shape"] == ["batch_size", "sequence_length"]
    assert artifact.outputs == {"logits": {"dtype": "float32", "shape": ["batch_size", 2]}}
    random = np.random.default_rng(3)
    ids, types = (torch.tensor(random.integers(0, most, (4, 9))) for most in (50, 2))
    inputs = dict(zip(ORDER, (ids, torch.ones_like(ids), types), strict=True))
    path = str(tmp_path / "out" / find_target(target).program)
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(BERT).eval()
    truth = model(**inputs).logits
    if target == "torchscript":
        program = torch.jit.load(path)
        found = program(*inputs.values())["logits"]
    else:
        program = torch.export.load(path).module()
        found = program(**dict(reversed(inputs.items())))["logits"]
        with pytest.raises(ValueError, match="keyword"):
            program(*inputs.values())
    torch.testing.assert_close(found, truth.detach(), rtol=0, atol=1e-5)
    assert not found.requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("target", ALONE)
def test_readme_in_a_bare_process(target: str, workers: WorkerPool, tmp_path: Path) -> None:
    """The example of an artifact's README, which the docs show too, runs with its runtime alone and gives the model's numbers."""
    out = tmp_path / "out"
    sizes = {"batch": 2, "sequence": 24} if target == "tflite" else {}
    artifact = export(target, BERT, out, workers, sizes=sizes)
    for package in find_target(target).needs:
        assert artifact.exporter["versions"][package]
    text = (out / "README.md").read_text(encoding="utf-8")
    assert "README.md" in artifact.files
    assert "it was not compared with the model" in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert code in (ROOT / "docs" / "artifacts.md").read_text(encoding="utf-8")
    script = BARE.format(names=("equipoise", *ALONE[target])) + code
    script += (
        "import json\nimport numpy\nprint(json.dumps(numpy.asarray(outputs['logits']).tolist()))"
    )
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shape, numbers = done.stdout.splitlines()[-2:]
    assert shape.startswith("{'logits': (")
    rows, length = (sizes["batch"], sizes["sequence"]) if sizes else (3, 15)
    np.testing.assert_allclose(json.loads(numbers), expected_logits(rows, length), atol=1e-5)


@pytest.mark.slow
def test_layout_of_transformers_js(workers: WorkerPool, tmp_path: Path) -> None:
    """The folder ``onnx/``, a suffix for the dtype, a ``tokenizer.json`` made from ``vocab.txt``."""
    from tokenizers import Tokenizer

    model = tmp_path / "model"
    shutil.copytree(BERT, model)
    (model / "tokenizer.json").unlink()
    options = {"layout": "transformers.js", "quantize": "int8-dynamic", "external": True}
    artifact = export("onnx", model, tmp_path / "out", workers, options=options)
    assert artifact.program == "onnx/model_quantized.onnx"
    assert {artifact.program, "onnx/model_quantized.onnx_data"} <= set(artifact.files)
    assert "tokenizer.json" in artifact.companions
    text = "A wonderful film, and not a boring one!"
    made, own = (
        Tokenizer.from_file(str(one / "tokenizer.json")) for one in (tmp_path / "out", BERT)
    )
    assert made.encode(text).ids == own.encode(text).ids
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["transformers.js_config"] == {
        "use_external_data_format": {"model_quantized.onnx": 1}
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "tflite", "--batch", "dynamic"), "takes inputs of one size"),
        (
            ("--to", "torchscript", "--layout", "transformers.js"),
            "has no layout for transformers.js",
        ),
        (
            ("--to", "onnx", "--layout", "transformers.js", "--dtype", "bf16"),
            "loads no graph of this precision",
        ),
    ],
)
def test_refusals(
    arguments: tuple[str, ...], message: str, cli: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = cli("export", BERT, tmp_path / "out", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "out").exists()
