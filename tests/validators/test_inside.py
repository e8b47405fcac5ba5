"""The look inside: captured passes are the real ones, and the place of a fault is right, or said not to be known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from onnx_faults import (
    Graph,
    cast_after,
    clip_after,
    clip_logits,
    low_products,
    plant,
    without_past,
)
from task_models import ROOT

from equipoise.convert import convert
from equipoise.validators.core.request import Request
from equipoise.validators.core.types import ForwardPass
from equipoise.validators.evaluation.context import prepare_context
from equipoise.validators.evaluation.locate import CACHE_NOT_COMPARED, HIDDEN_BY_RECORDING
from equipoise.validators.judgement.results import WHOLE_MODEL, BackendResult, Verdict
from equipoise.validators.models.sources import resolve_artifact, resolve_model
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.runtime.recorder import Recorder
from equipoise.validators.runtime.remote import (
    RemoteModel,
    RemoteRunner,
    capture_last,
    replay,
)
from equipoise.validators.validate import validate

pytestmark = [pytest.mark.transformers, pytest.mark.slow, pytest.mark.xdist_group("inside")]

GPT2 = ROOT / "tasks" / "text-generation"
BART = ROOT / "tasks" / "summarization"
BERT = ROOT / "tasks" / "text-classification"
FAULTY = Path(__file__).parent / "faulty"
FINE = (Verdict.IDENTICAL, Verdict.WITHIN_NOISE)


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, workers: WorkerPool
) -> Callable[[Path], Path]:
    """Returns a function that exports a model to ONNX with its cache, once."""
    from equipoise.validators.export.export import ExportRequest, export_model

    folder = tmp_path_factory.mktemp("onnx")

    def export(model: Path) -> Path:
        if not (folder / model.name).exists():
            export_model(
                ExportRequest(Request(model), folder / model.name, "onnx", judged=False), workers
            )
        return folder / model.name

    return export


def passes_of(model: Path, case: str, workers: WorkerPool, scratch: Path) -> Any:
    """Returns context and batch of a case, and its forward passes as PyTorch's generation loop makes them."""
    context = prepare_context(Request(model, cases=[case]), workers, scratch)
    (batch,) = context.batches
    source = context.pytorch
    loaded = RemoteModel(workers.get("pytorch"), "pytorch", context.class_name, source.path)
    recorder = Recorder(RemoteRunner(loaded))
    context.task.run(recorder, context.model, batch)
    loaded.drop()
    return context, batch, recorder.forward


def assert_capture_is_the_step(
    runner: RemoteRunner, passes: list[ForwardPass], kwargs: dict[str, Any], *, exact: bool
) -> None:
    """Compares the outputs of captured passes with those of the loop, for the first, the second and the last pass."""
    outputs, _ = replay(runner, passes, kwargs)
    for index in {0, 1, len(passes) - 1}:
        captured = capture_last(runner, passes[: index + 1], kwargs)
        assert captured.modules
        assert captured.outputs.keys() == outputs[index].keys()
        for name, value in outputs[index].items():
            scale = float(np.abs(value).max())
            assert captured.outputs[name].shape == value.shape
            limit = 0.0 if exact else 1e-5 * scale
            assert np.abs(captured.outputs[name] - value).max() <= limit, (name, index)


LOOPS = ["greedy", "batch-beam-cache"]


@pytest.mark.parametrize("case", LOOPS)
@pytest.mark.parametrize("model", [GPT2, BART], ids=lambda model: model.name)
def test_capture_is_the_step(
    model: Path,
    case: str,
    workers: WorkerPool,
    exported: Callable[[Path], Path],
    tmp_path: Path,
) -> None:
    """PyTorch bit for bit; ONNX Runtime up to the fusions that further outputs prevent."""
    context, batch, passes = passes_of(model, case, workers, tmp_path)
    assert len(passes) > 2
    for source, exact in ((context.pytorch, True), (resolve_artifact(exported(model)), False)):
        worker = workers.get(source.backend)
        loaded = RemoteModel(worker, source.backend, context.class_name, source.path)
        assert_capture_is_the_step(RemoteRunner(loaded), passes, batch.kwargs, exact=exact)
        loaded.drop()


@pytest.mark.oracle
@pytest.mark.parametrize("case", LOOPS)
@pytest.mark.parametrize("backend", ["tensorflow", "flax"])
@pytest.mark.parametrize("model", [GPT2, BART], ids=lambda model: model.name)
def test_capture_is_the_step_of_other_classes(
    model: Path, backend: str, case: str, oracle_workers: WorkerPool, tmp_path: Path
) -> None:
    context, batch, passes = passes_of(model, case, oracle_workers, tmp_path)
    source = resolve_model(context.model, backend, tmp_path)
    loaded = RemoteModel(
        oracle_workers.get(backend), backend, context.class_name, source.path, dtype="float32"
    )
    assert_capture_is_the_step(RemoteRunner(loaded), passes, batch.kwargs, exact=False)
    loaded.drop()


@pytest.fixture(scope="module")
def oracle_workers(pytestconfig: pytest.Config) -> Any:
    with WorkerPool({"oracle": pytestconfig.getoption("--oracle")}, time_limit=300) as found:
        yield found


BLOCK = "transformer.h.{}"
LAYER_1 = BLOCK.format(1)
FAULTS: dict[str, tuple[str, Callable[[Graph], None], tuple[str, str, str], int]] = {
    # case, change, (module, the last within noise, the first beyond), step
    "past keys of layer 1": (
        "greedy-cache",
        without_past(1, "key"),
        (f"{LAYER_1}.attn", f"{LAYER_1}.attn.c_attn", f"{LAYER_1}.attn.c_proj"),
        2,
    ),
    "past values of layer 1": (
        "greedy-cache",
        without_past(1, "value"),
        (f"{LAYER_1}.attn", f"{LAYER_1}.attn.c_attn", f"{LAYER_1}.attn.c_proj"),
        2,
    ),
    "clip in a block": (
        "greedy",
        clip_after("transformer.h.0.ln_1"),
        ("transformer.h.0", "transformer.h.0.ln_1", "transformer.h.0.attn"),
        1,
    ),
    "clip between blocks": (
        "greedy",
        clip_after("transformer.h.0"),
        ("transformer", "transformer.h.0", "transformer.h.1"),
        1,
    ),
    "cast between blocks": (
        "greedy-cache",
        cast_after("transformer.h.0"),
        ("transformer", "transformer.h.0", "transformer.h.1"),
        1,
    ),
    "clip of the logits": ("greedy", clip_logits, (WHOLE_MODEL, "lm_head", ""), 1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults(
    name: str,
    cli: Callable[..., Any],
    exported: Callable[[Path], Path],
    tmp_path: Path,
) -> None:
    case, change, place, step = FAULTS[name]
    program = plant(exported(GPT2) / "model.onnx", tmp_path / "model.onnx", change)
    outcome = cli("bisect", GPT2, program, "--backends", "onnx", "--case", case, "--json")
    assert outcome.code == 1
    first = outcome.data[0]["divergence"]
    assert (first["module"], first["after"], first["before"]) == place
    assert first["step"] == step
    assert (CACHE_NOT_COMPARED in first["note"]) == (step > 1)
    assert all(error < first["error"] for error in first["inputs"].values())


@pytest.mark.parametrize("case", ["greedy-cache", "batch-beam-cache"])
def test_correct_program(
    case: str, cli: Callable[..., Any], exported: Callable[[Path], Path]
) -> None:
    outcome = cli("bisect", GPT2, exported(GPT2), "--backends", "onnx", "--case", case, "--json")
    assert outcome.code == 0
    (result,) = outcome.data
    assert len(result["depth"]) > 20
    assert not [point for point in result["depth"] if point["beyond"]]
    assert result["divergence"] is None


def test_the_text_says_which_modules(
    cli: Callable[..., Any], exported: Callable[[Path], Path], tmp_path: Path
) -> None:
    change = clip_after("transformer.h.0")
    program = plant(exported(GPT2) / "model.onnx", tmp_path / "model.onnx", change)
    outcome = cli("bisect", GPT2, program, "--backends", "onnx", "--case", "greedy")
    assert outcome.code == 1
    assert (
        "between transformer.h.0, the last within noise, and transformer.h.1, the first beyond"
        in outcome.out
    )
    assert "its inputs are within noise" not in outcome.out
    assert "beyond noise" in outcome.out.partition("transformer.h.1.ln_1")[2].partition("\n")[0]


def judge(request: Request, workers: WorkerPool) -> BackendResult:
    (result,) = validate(request, workers).backends
    assert not result.failure, result.failure
    assert result.verdict not in FINE
    return result


def test_a_fault_that_recording_hides(workers: WorkerPool) -> None:
    request = Request(BERT, backends=[str(FAULTY / "fused.py")], cases=["single"])
    result = judge(request, workers)
    assert result.divergence is None
    assert not [point for point in result.depth if point.beyond]
    assert HIDDEN_BY_RECORDING in result.notes


@pytest.mark.parametrize(
    ("backend", "model", "computed"),
    [
        ("lower_precision", BERT, "TensorFloat-32"),
        ("lower_precision", GPT2, "TensorFloat-32"),
        ("mixed_precision", GPT2, "bfloat16"),  # by its outputs alone
    ],
)
def test_computed_precision(backend: str, model: Path, computed: str, workers: WorkerPool) -> None:
    case = "greedy" if model == GPT2 else "batch"
    request = Request(model, backends=[str(FAULTY / f"{backend}.py")], cases=[case])
    found = judge(request, workers).computed
    assert found is not None
    assert (found.declared, found.computed) == ("float32", computed)
    assert 0.5 < found.size < 2


def test_products_in_float16(
    workers: WorkerPool, exported: Callable[[Path], Path], tmp_path: Path
) -> None:
    program = plant(exported(GPT2) / "model.onnx", tmp_path / "model.onnx", low_products)
    found = judge(Request(GPT2, [program], backends=[], cases=["greedy"]), workers).computed
    assert found is not None
    assert "float16" in found.computed


def change_epsilon(folder: Path, scale: float) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "layer_norm_eps": scale}))


def change_weights(folder: Path, scale: float) -> None:
    from safetensors.numpy import load_file, save_file

    draws = np.random.default_rng(0)
    tensors = load_file(folder / "model.safetensors")
    for name, value in tensors.items():
        if value.ndim > 1:
            tensors[name] = value * (1 + scale * draws.standard_normal(value.shape)).astype("f4")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "scale"),
    [
        (change_epsilon, 1e-5),
        (change_epsilon, 1e-3),
        (change_weights, 3e-4),
        (change_weights, 2e-3),
    ],
)
def test_real_faults_are_no_precision(
    change: Callable[[Path, float], None], scale: float, workers: WorkerPool, tmp_path: Path
) -> None:
    shutil.copytree(BERT, tmp_path / "faulty")
    change(tmp_path / "faulty", scale)
    result = judge(Request(BERT, [tmp_path / "faulty"], backends=[]), workers)
    assert result.computed is None
    assert result.divergence is not None


def test_more_exact_than_the_precision_under_test(
    cli: Callable[..., Any], exported: Callable[[Path], Path]
) -> None:
    outcome = cli(
        *("validate", GPT2, exported(GPT2), "--backends", "onnx", "--cases", "greedy"),
        *("--precision", "fp16"),
    )
    assert outcome.code == 0
    assert (
        "it computes in float32, which is more exact than the float16 it is held to" in outcome.out
    )


@pytest.mark.oracle
def test_activation_within_a_dense_layer(oracle_workers: WorkerPool, tmp_path: Path) -> None:
    """TensorFlow's pre_classifier applies a relu that PyTorch's does not, in no module of its own."""
    import torch
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(0)
    model = tmp_path / "model"
    shutil.copytree(BERT, model)
    vocabulary = json.loads((BERT / "config.json").read_text())["vocab_size"]
    config = DistilBertConfig(
        vocab_size=vocabulary,
        dim=32,
        hidden_dim=64,
        n_layers=2,
        n_heads=4,
        id2label={0: "no", 1: "yes"},
    )
    DistilBertForSequenceClassification(config).save_pretrained(model)
    convert(model, tmp_path / "tensorflow", to="tensorflow")
    request = Request(model, [tmp_path / "tensorflow"], backends=[], cases=["batch"], depth=True)
    (result,) = validate(request, oracle_workers).backends
    assert result.verdict in FINE, result
    depth = {point.path: point for point in result.depth}
    assert "pre_classifier" in depth
    assert not [point for point in result.depth if point.beyond]
