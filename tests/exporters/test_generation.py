"""Generative models: the artifact with a KV cache generates PyTorch's tokens and stores each weight once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from equipoise.exporters import load_jax
from equipoise.exporters.artifact import read_manifest
from equipoise.validators.core.request import Request
from equipoise.validators.evaluation.context import prepare_context
from equipoise.validators.export.export import ExportRequest, export_model
from equipoise.validators.generation.generate import generate
from equipoise.validators.judgement.results import Verdict
from equipoise.validators.models.sources import ModelSource, resolve_artifact
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.runtime.remote import RemoteModel, RemoteRunner

pytestmark = [
    pytest.mark.transformers,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses"),
]

ROOT = Path(__file__).parents[2] / "fixtures" / "tasks"
FINE = (Verdict.IDENTICAL, Verdict.WITHIN_NOISE)
DECODERS = ["text-generation", "text-generation-llama"]
SEQ2SEQ = [
    "translation-t5",
    "summarization",
    "translation",
    "automatic-speech-recognition-seq2seq",
    "image-to-text",
]
MERGED = "decoder_model_merged.onnx"
GRAPHS = ["decoder_model.onnx", "decoder_with_past_model.onnx", "encoder_model.onnx"]


@pytest.mark.parametrize("name", [*DECODERS, *SEQ2SEQ])
def test_generates_the_same_tokens(name: str, workers: WorkerPool, tmp_path: Path) -> None:
    request = Request(ROOT / name, divergence=False)
    out = tmp_path / "out"
    found = export_model(ExportRequest(request, out, "onnx", ways=["dynamo"]), workers)
    assert found.report is not None
    assert found.verdict in FINE
    for result in found.report.backends:
        assert {"greedy-cache", "beam-cache", "batch-beam-cache"} <= {c.case for c in result.cases}
        assert all(case.decisions[0] == case.decisions[1] > 0 for case in result.cases)
        assert not any("keeps no cache" in note for note in result.notes)
    assert_tokens(request, out, workers, tmp_path)
    if name in SEQ2SEQ:
        assert sorted(path.name for path in out.glob("*.onnx")) == GRAPHS
        assert stored_weights(out) < 1.15 * weights(name)


@pytest.mark.parametrize("name", ["translation", "image-to-text"])
def test_both_decoders_in_one_file(name: str, workers: WorkerPool, tmp_path: Path) -> None:
    request = Request(ROOT / name, divergence=False)
    out = tmp_path / "out"
    options = {"merged": True, "max_shard_size": 50_000}
    found = export_model(
        ExportRequest(request, out, "onnx", ways=["dynamo"], options=options), workers
    )
    assert found.verdict in FINE
    assert list(found.artifact.graphs) == ["encoder", "decoder_merged"]
    assert found.artifact.graphs["decoder_merged"]["inputs"]["use_cache_branch"] == {
        "dtype": "bool",
        "shape": [1],
    }
    assert sorted(path.name for path in out.glob("*.onnx")) == [MERGED, "encoder_model.onnx"]
    assert_tokens(request, out, workers, tmp_path)
    assert stored_weights(out) < 1.15 * weights(name)
    assert (out / "weights.data_1").stat().st_size <= 50_000


@pytest.mark.parametrize("target", ["stablehlo", "saved-model"])
def test_decoder_of_other_targets(target: str, workers: WorkerPool, tmp_path: Path) -> None:
    """One program whose past may be empty."""
    name = "text-generation" if target == "stablehlo" else "text-generation-llama"
    request = Request(ROOT / name, divergence=False, cases=["batch-cache"])
    found = export_model(ExportRequest(request, tmp_path / "out", target, ways=["export"]), workers)
    assert_judged(found)
    assert found.artifact.inputs["past_key_values.0.key"]["shape"][2] == "past_sequence_length"
    assert (
        found.artifact.outputs["present.0.key"]["shape"][2]
        == "past_sequence_length + sequence_length"
    )


@pytest.mark.parametrize("target", ["stablehlo", "saved-model"])
def test_encoder_decoder_of_other_targets(target: str, workers: WorkerPool, tmp_path: Path) -> None:
    """Few tokens are generated: XLA compiles a program for each of them."""
    name = "image-to-text" if target == "stablehlo" else "translation-t5"
    request = Request(ROOT / name, divergence=False)
    out = tmp_path / "out"
    found = export_model(
        ExportRequest(request, out, target, judged=False, ways=["export"]), workers
    )
    assert list(found.artifact.graphs) == ["encoder", "decoder", "decoder_with_past"]
    assert_tokens(request, out, workers, tmp_path, tokens=4, beams=(4,))
    files = [one["file"] for one in found.artifact.graphs.values()]
    if target == "stablehlo":
        assert files == ["encoder.jax", "decoder.jax", "decoder_with_past.jax"]
        assert (out / "flax_model.msgpack").stat().st_size < 1.15 * weights(name)
        assert_steps_equal_full_pass(out)
    else:
        assert set(files) == {"saved_model/1"}
        data = (out / "saved_model" / "1" / "variables").glob("variables.data*")
        assert sum(path.stat().st_size for path in data) < 1.15 * weights(name)


def assert_judged(found: Any) -> None:
    """Asserts a verdict within noise, with the cache, and every token equal to PyTorch's."""
    assert found.verdict in FINE
    (result,) = found.report.backends
    (case,) = result.cases
    assert case.case == "batch-cache"
    assert case.decisions[0] == case.decisions[1] > 0


def assert_steps_equal_full_pass(folder: Path) -> None:
    """Asserts that three tokens at once, and two and then one with the cache, give the same logits."""
    model = load_jax(folder)
    pixels = np.random.default_rng(0).standard_normal((2, 3, 30, 30)).astype(np.float32)
    tokens = np.array([[1, 5, 6], [1, 7, 8]])
    full_pass = model(pixel_values=pixels, decoder_input_ids=tokens)["logits"]
    encoded = model.roles["encoder"](pixel_values=pixels)["last_hidden_state"]
    first = model.roles["decoder"](input_ids=tokens[:, :2], encoder_hidden_states=encoded)
    past = {
        name.replace("present", "past_key_values"): value
        for name, value in first.items()
        if name != "logits"
    }
    going = {**past, "input_ids": tokens[:, 2:], "encoder_hidden_states": encoded}
    program = model.roles["decoder_with_past"]
    last = program(**{name: going[name] for name in program.inputs})["logits"]
    steps = np.concatenate([first["logits"], last], axis=1)
    np.testing.assert_allclose(steps, full_pass, rtol=0, atol=1e-5)


def stored_weights(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("weights.data*"))


def weights(name: str) -> int:
    return sum(path.stat().st_size for path in (ROOT / name).glob("*.safetensors"))


def assert_tokens(
    request: Request,
    out: Path,
    workers: WorkerPool,
    scratch: Path,
    tokens: int = 32,
    beams: tuple[int, ...] = (1, 4),
) -> None:
    """Asserts PyTorch's tokens for three samples, by greedy and 4-beam search with the cache."""
    context = prepare_context(request, workers, scratch)
    batch = next(one for one in context.batches if one.case.name == "batch-cache")
    runners = [
        RemoteRunner(RemoteModel(workers.get(form.backend), form.backend, name, form.path))
        for form, name in (
            (ModelSource("pytorch", context.pytorch.path), context.class_name),
            (resolve_artifact(out), ""),
        )
    ]
    for width in beams:
        options: dict[str, Any] = {"num_beams": width, "cache": True, "max_new_tokens": tokens}
        theirs, ours = (
            generate(runner, context.model, batch.arrays, options, **batch.kwargs)["sequences"]
            for runner in runners
        )
        np.testing.assert_array_equal(ours, theirs)
    for runner in runners:
        runner.model.drop()


def test_names_of_optimum(workers: WorkerPool, tmp_path: Path) -> None:
    request = Request(ROOT / "translation")
    export_model(
        ExportRequest(request, tmp_path / "out", "onnx", judged=False, ways=["dynamo"]), workers
    )
    graphs = read_manifest(tmp_path / "out")["graphs"]
    past = [
        f"past_key_values.{layer}.{side}.{part}"
        for layer in (0, 1)
        for side in ("decoder", "encoder")
        for part in ("key", "value")
    ]
    given = graphs["decoder_with_past"]
    assert set(given["inputs"]) == {"input_ids", "encoder_attention_mask", *past}
    assert given["inputs"]["past_key_values.0.encoder.key"] == {
        "dtype": "float32",
        "shape": ["batch_size", 6, "encoder_sequence_length", 6],
    }
    presents = [name.replace("past_key_values", "present") for name in past]
    # Optimum goes by the order: each layer's own keys and values, then those of the encoder.
    assert list(graphs["decoder"]["outputs"]) == ["logits", *presents]
    assert [name for name in given["inputs"] if name in past] == past
    assert list(given["outputs"]) == ["logits", *(one for one in presents if ".decoder." in one)]
    assert list(graphs["encoder"]["outputs"]) == ["last_hidden_state"]
