"""Models that write: the artifact with its cache writes what PyTorch writes, and holds each weight once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from equipoise.exporters.artifact import read
from equipoise.validators.environment import RemoteModel
from equipoise.validators.exporting import Export, export
from equipoise.validators.forms import Form, form_of_artifact
from equipoise.validators.generation import generate
from equipoise.validators.remote import RemoteRunner
from equipoise.validators.request import Request
from equipoise.validators.setup import prepare
from equipoise.validators.verdict import Verdict
from equipoise.validators.workers import Workers

pytestmark = [
    pytest.mark.transformers,
    pytest.mark.slow,
    pytest.mark.xdist_group("exports"),
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
def test_writes_the_same(name: str, workers: Workers, tmp_path: Path) -> None:
    request = Request(ROOT / name, divergence=False)
    out = tmp_path / "out"
    found = export(Export(request, out, "onnx", ways=["dynamo"]), workers)
    assert found.report is not None
    assert found.verdict in FINE
    for result in found.report.backends:
        assert {"greedy-cache", "beam-cache", "batch-beam-cache"} <= {c.case for c in result.cases}
        assert all(case.decisions[0] == case.decisions[1] > 0 for case in result.cases)
        assert not any("keeps no cache" in note for note in result.notes)
    assert_tokens(request, out, workers, tmp_path)
    if name in SEQ2SEQ:
        assert sorted(path.name for path in out.glob("*.onnx")) == GRAPHS
        assert stored(out) < 1.15 * weights(name)


@pytest.mark.parametrize("name", ["translation", "image-to-text"])
def test_both_decoders_in_one_file(name: str, workers: Workers, tmp_path: Path) -> None:
    request = Request(ROOT / name, divergence=False)
    out = tmp_path / "out"
    options = {"merged": True, "max_shard_size": 50_000}
    found = export(Export(request, out, "onnx", ways=["dynamo"], options=options), workers)
    assert found.verdict in FINE
    assert list(found.artifact.graphs) == ["encoder", "decoder_merged"]
    assert found.artifact.graphs["decoder_merged"]["inputs"]["use_cache_branch"] == {
        "dtype": "bool",
        "shape": [1],
    }
    assert sorted(path.name for path in out.glob("*.onnx")) == [MERGED, "encoder_model.onnx"]
    assert_tokens(request, out, workers, tmp_path)
    assert stored(out) < 1.15 * weights(name)
    assert (out / "weights.data_1").stat().st_size <= 50_000


def stored(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("weights.data*"))


def weights(name: str) -> int:
    return sum(path.stat().st_size for path in (ROOT / name).glob("*.safetensors"))


def assert_tokens(request: Request, out: Path, workers: Workers, scratch: Path) -> None:
    """32 tokens of three samples, greedy and with four beams, with the cache: the same as PyTorch's."""
    setup = prepare(request, workers, scratch)
    batch = next(one for one in setup.batches if one.case.name == "batch-cache")
    runners = [
        RemoteRunner(RemoteModel(workers.get(form.backend), form.backend, name, form.path))
        for form, name in (
            (Form("pytorch", setup.pytorch.path), setup.class_name),
            (form_of_artifact(out), ""),
        )
    ]
    for beams in (1, 4):
        options: dict[str, Any] = {"beams": beams, "cache": True, "max_new_tokens": 32}
        theirs, ours = (
            generate(runner, setup.model, batch.arrays, options, **batch.kwargs)["sequences"]
            for runner in runners
        )
        np.testing.assert_array_equal(ours, theirs)
    for runner in runners:
        runner.model.drop()


def test_names_are_those_of_the_field(workers: Workers, tmp_path: Path) -> None:
    request = Request(ROOT / "translation")
    export(Export(request, tmp_path / "out", "onnx", judged=False, ways=["dynamo"]), workers)
    graphs = read(tmp_path / "out")["graphs"]
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
        "shape": ["batch", 6, "encoder_sequence", 6],
    }
    presents = [name.replace("past_key_values", "present") for name in past]
    # Optimum goes by the order: each layer's own keys and values, then those of the encoder.
    assert list(graphs["decoder"]["outputs"]) == ["logits", *presents]
    assert [name for name in given["inputs"] if name in past] == past
    assert list(given["outputs"]) == ["logits", *(one for one in presents if ".decoder." in one)]
    assert list(graphs["encoder"]["outputs"]) == ["last_hidden_state"]
