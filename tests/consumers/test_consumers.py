"""Programs of others load what export writes and answer what the model answers: optimum, sentence-transformers, Node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest

from equipoise.exporters.artifact import read_manifest
from equipoise.fixtures.sentence_models import PROMPT, write_sentence_model
from equipoise.validators.core.request import Request
from equipoise.validators.export.export import ExportRequest, export_model
from equipoise.validators.pipeline import run_pipeline
from equipoise.validators.runtime.process import WorkerPool

pytestmark = [
    *(pytest.mark.consumers, pytest.mark.slow, pytest.mark.transformers),
    pytest.mark.xdist_group("consumers"),
]

TASKS = Path(__file__).parents[2] / "fixtures" / "tasks"
TEXTS = ["The weather is fine today.", "A cat sleeps.", "Yesterday the children went to the lake."]
TEXT_OF = {
    "text-classification": "a wonderful film",
    "text-generation-llama": "the owl",
    "translation-t5": "translate English to German: The owl seeks the horse.",
}
"""Fixture -> the text that is given to it."""
TWO_DECODERS = "two-decoders"
"""Artifact of a T5 whose merged decoder optimum cannot run: its ``d_kv`` is not ``d_model / num_heads``."""
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")

ENCODE = """
import json, sys
from sentence_transformers import SentenceTransformer
folder, backend, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
options = {"provider": "CPUExecutionProvider"} if backend == "onnx" else {}
model = SentenceTransformer(folder, backend=backend, device="cpu", model_kwargs=options)
prompt = model.prompts.get(model.default_prompt_name or "", "")
tokens = model.tokenizer([prompt + text for text in texts], padding=True)
print(json.dumps({"tokens": dict(tokens), "vectors": model.encode(texts).tolist()}))
"""
OPTIMUM = """
import json, sys
from optimum import onnxruntime
from transformers import AutoTokenizer
answers = {}
for folder, subfolder, name, text, bound in json.loads(sys.argv[1]):
    cls = getattr(onnxruntime, name)
    model = cls.from_pretrained(folder, subfolder=subfolder, use_io_binding=bound)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(text, return_tensors="pt")
    if hasattr(model, "generate"):
        ids = model.generate(**inputs, do_sample=False)
        answers[name] = tokenizer.decode(ids[0], skip_special_tokens=True)
    else:
        answers[name] = model(**inputs).logits.softmax(-1).max().item()
print(json.dumps(answers))
"""
NODE = """
import { pipeline, env } from '@huggingface/transformers';
env.allowRemoteModels = false;
env.localModelPath = process.argv[2];
const [task, model, dtype, text, options] = process.argv.slice(3);
const call = await pipeline(task, model, { dtype });
console.log(JSON.stringify((await call(text, JSON.parse(options)))[0]));
"""


@pytest.fixture(scope="session")
def consumer(pytestconfig: pytest.Config) -> Callable[..., Any]:
    """Returns a function that runs a script in the environment of others and returns what it prints."""
    python = Path(pytestconfig.getoption("--consumers"))
    assert python.exists(), "make the environment first: make test"

    def run(script: str, *arguments: object) -> Any:
        command = [str(python), "-I", "-W", "ignore", "-c", script, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def node(pytestconfig: pytest.Config) -> Callable[..., Any]:
    """Returns a function that runs a pipeline of transformers.js on an artifact."""
    folder = Path(pytestconfig.getoption("--node"))
    if which("node") is None or not (folder / "node_modules").is_dir():
        pytest.skip("there is no Node with the package @huggingface/transformers on this machine")
    script = folder / "pipeline.mjs"
    script.write_text(NODE, encoding="utf-8")

    def run(task: str, model: Path, dtype: str, text: str, **options: object) -> Any:
        folders = [f"{model.parent}/", task, model.name]
        command = ["node", str(script), *folders, dtype, text, json.dumps(options)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def artifacts(worker_pool: WorkerPool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Artifacts in the layout of transformers.js, which optimum reads too."""
    folder = tmp_path_factory.mktemp("artifacts")
    web = {"layout": "transformers.js"}
    wanted = {**{name: (name, web) for name in TEXT_OF}, TWO_DECODERS: ("translation-t5", {})}
    for name, (model, options) in wanted.items():
        request = Request(TASKS / model)
        export_model(
            ExportRequest(request, folder / name, "onnx", judged=False, options=options),
            worker_pool,
        )
    return {name: folder / name for name in wanted}


def answer(name: str, workers: WorkerPool) -> Any:
    """Returns what a model itself answers, on PyTorch."""
    task = name.removesuffix("-llama").removesuffix("-t5")
    (found,) = run_pipeline(task, TASKS / name, [TEXT_OF[name]], workers=workers)
    return found[0] if isinstance(found, list) else found


def test_sentence_transformers(
    consumer: Callable[..., Any], workers: WorkerPool, tmp_path: Path
) -> None:
    """The graph gives what ``encode`` gives, and the library itself loads the artifact."""
    import onnxruntime

    settings: dict[str, Any] = {"include_prompt": False, "prompt": PROMPT}
    model, out = write_sentence_model(tmp_path / "model", MODES, **settings), tmp_path / "out"
    request = Request(model, sentence=True)
    export_model(ExportRequest(request, out, "onnx", judged=False), workers)
    expected = consumer(ENCODE, model, "torch", json.dumps(TEXTS))
    loaded = consumer(ENCODE, out, "onnx", json.dumps(TEXTS))
    np.testing.assert_allclose(loaded["vectors"], expected["vectors"], rtol=0, atol=2e-6)
    session = onnxruntime.InferenceSession(out / "model.onnx")
    inputs = {name: np.array(value) for name, value in expected["tokens"].items()}
    (vectors,) = session.run(["sentence_embedding"], inputs)
    np.testing.assert_allclose(vectors, expected["vectors"], rtol=0, atol=2e-6)


def test_optimum(
    artifacts: dict[str, Path], consumer: Callable[..., Any], workers: WorkerPool
) -> None:
    """Where memory is bound before a call, the sizes of outputs are computed from the names of axes."""
    models = {
        "text-classification": ("onnx", "ORTModelForSequenceClassification", True),
        "text-generation-llama": ("onnx", "ORTModelForCausalLM", True),
        TWO_DECODERS: ("", "ORTModelForSeq2SeqLM", False),
    }
    calls = [
        (str(artifacts[model]), folder, name, TEXT_OF.get(model, TEXT_OF["translation-t5"]), bound)
        for model, (folder, name, bound) in models.items()
    ]
    found = consumer(OPTIMUM, json.dumps(calls))
    score = answer("text-classification", workers)["score"]
    assert found["ORTModelForSequenceClassification"] == pytest.approx(score, abs=1e-5)
    assert (
        found["ORTModelForCausalLM"] == answer("text-generation-llama", workers)["generated_text"]
    )
    assert found["ORTModelForSeq2SeqLM"] == answer("translation-t5", workers)["translation_text"]
    notes = read_manifest(artifacts["translation-t5"])["notes"]
    assert any("optimum-onnx runs two decoders only" in note for note in notes)


def test_node(artifacts: dict[str, Path], node: Callable[..., Any], workers: WorkerPool) -> None:
    found = node(
        "text-classification", artifacts["text-classification"], "fp32", "a wonderful film"
    )
    expected = answer("text-classification", workers)
    assert found["label"] == expected["label"]
    assert found["score"] == pytest.approx(expected["score"], abs=1e-5)
    for name in ("text-generation-llama", "translation-t5"):
        task = name.rpartition("-")[0]
        settings = {} if task == "translation" else {"do_sample": False}
        found = node(task, artifacts[name], "fp32", TEXT_OF[name], **settings)
        assert found == answer(name, workers)
