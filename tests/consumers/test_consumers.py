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

from equipoise.fixtures.sentence_models import PROMPT, write_sentence_model
from equipoise.validators.pipeline import run_pipeline
from equipoise.validators.runtime.process import WorkerPool

pytestmark = [pytest.mark.consumers, pytest.mark.slow, pytest.mark.transformers]

TASKS = Path(__file__).parents[2] / "fixtures" / "tasks"
TEXTS = ["The weather is fine today.", "A cat sleeps.", "Yesterday the children went to the lake."]
TEXT_TO_TEXT = "translate English to German: The owl seeks the horse."
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
import torch
from optimum import onnxruntime
from transformers import AutoTokenizer
folder, name, text, options = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
model = getattr(onnxruntime, name).from_pretrained(folder, **options)
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer(text, return_tensors="pt")
if hasattr(model, "generate"):
    ids = model.generate(**inputs, do_sample=False)
    print(json.dumps(tokenizer.decode(ids[0], skip_special_tokens=True)))
else:
    print(json.dumps(model(**inputs).logits.softmax(-1).tolist()))
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


@pytest.fixture
def node(pytestconfig: pytest.Config, tmp_path: Path) -> Callable[..., Any]:
    """Returns a function that runs a pipeline of transformers.js on a folder below ``tmp_path``."""
    folder = Path(pytestconfig.getoption("--node"))
    if which("node") is None or not (folder / "node_modules").is_dir():
        pytest.skip("there is no Node with the package @huggingface/transformers on this machine")
    script = folder / "pipeline.mjs"
    script.write_text(NODE, encoding="utf-8")

    def run(task: str, model: str, dtype: str, text: str, **options: object) -> Any:
        command = [
            "node",
            str(script),
            f"{tmp_path}/",
            task,
            model,
            dtype,
            text,
            json.dumps(options),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def export(cli: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that exports a model to ONNX and returns the artifact."""

    def run(model: Path, *options: object) -> Path:
        out = tmp_path / "out"
        outcome = cli("export", model, out, "--to", "onnx", "--ways", "dynamo", *options)
        assert outcome.code == 0, outcome.out + outcome.err
        return out

    return run


def answer(task: str, model: Path, text: str, workers: WorkerPool) -> Any:
    """Returns what the model itself answers, on PyTorch."""
    (found,) = run_pipeline(task, model, [text], workers=workers)
    return found[0] if isinstance(found, list) else found


@pytest.mark.parametrize(
    ("modes", "settings"),
    [
        (MODES, {}),
        (("mean",), {"dense": False, "include_prompt": False, "prompt": PROMPT}),
        (("cls", "lasttoken"), {"prompt": PROMPT}),
    ],
)
def test_sentence_transformers(
    modes: tuple[str, ...],
    settings: dict[str, Any],
    consumer: Callable[..., Any],
    export: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """The graph gives what ``encode`` gives, and the library itself loads the artifact."""
    import onnxruntime

    model = write_sentence_model(tmp_path / "model", modes, **settings)
    out = export(model, "--cases", "padded")
    expected = consumer(ENCODE, model, "torch", json.dumps(TEXTS))
    loaded = consumer(ENCODE, out, "onnx", json.dumps(TEXTS))
    np.testing.assert_allclose(loaded["vectors"], expected["vectors"], rtol=0, atol=2e-6)
    session = onnxruntime.InferenceSession(out / "model.onnx")
    inputs = {name: np.array(value) for name, value in expected["tokens"].items()}
    (vectors,) = session.run(["sentence_embedding"], inputs)
    np.testing.assert_allclose(vectors, expected["vectors"], rtol=0, atol=2e-6)


def test_optimum_classifies(
    consumer: Callable[..., Any], export: Callable[..., Path], workers: WorkerPool
) -> None:
    """Sizes of outputs are computed from the names of axes where memory is bound before the call."""
    out = export(TASKS / "text-classification", "--no-validate")
    name, text = "ORTModelForSequenceClassification", "a wonderful film"
    scores = consumer(OPTIMUM, out, name, text, json.dumps({"use_io_binding": True}))
    expected = answer("text-classification", TASKS / "text-classification", text, workers)
    assert max(scores[0]) == pytest.approx(expected["score"], abs=1e-5)


@pytest.mark.parametrize("io_binding", [False, True])
def test_optimum_writes(
    io_binding: bool,
    consumer: Callable[..., Any],
    export: Callable[..., Path],
    workers: WorkerPool,
) -> None:
    model = TASKS / "text-generation-llama"
    out = export(model, "--no-validate")
    options = json.dumps({"use_io_binding": io_binding})
    found = consumer(OPTIMUM, out, "ORTModelForCausalLM", "the owl", options)
    expected = answer("text-generation", model, "the owl", workers)
    assert found == expected["generated_text"]


@pytest.mark.parametrize("merged", [False, True])
def test_optimum_translates(
    merged: bool,
    consumer: Callable[..., Any],
    export: Callable[..., Path],
    workers: WorkerPool,
) -> None:
    """A merged T5 needs ``use_merged=False`` with two decoders only; its ``d_kv`` is ``d_model / heads`` here."""
    model = TASKS / "translation-t5"
    out = export(model, "--no-validate", *(["--merged"] if merged else []))
    found = consumer(OPTIMUM, out, "ORTModelForSeq2SeqLM", TEXT_TO_TEXT, "{}")
    assert found == answer("translation", model, TEXT_TO_TEXT, workers)["translation_text"]


def test_node_classifies(
    node: Callable[..., Any], export: Callable[..., Path], workers: WorkerPool
) -> None:
    export(TASKS / "text-classification", "--layout", "transformers.js", "--no-validate")
    text = "a wonderful film"
    found = node("text-classification", "out", "fp32", text)
    expected = answer("text-classification", TASKS / "text-classification", text, workers)
    assert found["label"] == expected["label"]
    assert found["score"] == pytest.approx(expected["score"], abs=1e-5)


def test_node_writes(
    node: Callable[..., Any], export: Callable[..., Path], workers: WorkerPool
) -> None:
    model = TASKS / "text-generation-llama"
    export(model, "--layout", "transformers.js", "--no-validate")
    found = node("text-generation", "out", "fp32", "the owl", do_sample=False)
    assert found == answer("text-generation", model, "the owl", workers)


@pytest.mark.parametrize("dtype", ["fp32", "q8"])
def test_node_translates(
    dtype: str, node: Callable[..., Any], export: Callable[..., Path], workers: WorkerPool
) -> None:
    """With int8 weights the program is compared with itself, run by Equipoise."""
    model = TASKS / "translation-t5"
    quantize = ["--quantize", "int8-dynamic"] if dtype == "q8" else []
    out = export(model, "--layout", "transformers.js", "--no-validate", *quantize)
    found = node("translation", "out", dtype, TEXT_TO_TEXT)
    assert found == answer("translation", out if quantize else model, TEXT_TO_TEXT, workers)
