"""Planted faults are reported and located in the right module, and correct backends raise no alarm."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from task_models import ROOT

from equipoise.convert import convert
from equipoise.fixtures import programs
from equipoise.validators.core.request import Request
from equipoise.validators.judgement.results import BackendResult, Verdict
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.runtime.process import WorkerPool, WorkerProcess
from equipoise.validators.tasks.base import infer_task, load_samples
from equipoise.validators.validate import validate

pytestmark = [
    pytest.mark.transformers,
    pytest.mark.oracle,
    pytest.mark.slow,
    pytest.mark.xdist_group("faults"),
]

BERT = ROOT / "tasks" / "text-classification"
GPT2 = ROOT / "tasks" / "text-generation"
FAULTY = Path(__file__).parent / "faulty"
FINE = (Verdict.IDENTICAL, Verdict.WITHIN_NOISE)
Arrays = dict[str, np.ndarray]  # type: ignore[type-arg]


@pytest.fixture(scope="module")
def workers(pytestconfig: pytest.Config) -> Iterator[WorkerPool]:
    with WorkerPool({"oracle": pytestconfig.getoption("--oracle")}, time_limit=300) as found:
        yield found


def copy(folder: Path, to: Path, change: Callable[[Arrays], None], **config: object) -> Path:
    """Copies the model with changed weights or a changed config."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(folder, to)
    tensors = load_file(to / "model.safetensors")
    change(tensors)
    save_file(tensors, to / "model.safetensors", {"format": "pt"})
    values = {**json.loads((to / "config.json").read_text()), **config}
    (to / "config.json").write_text(json.dumps(values))
    return to


def transpose_value(tensors: Arrays) -> None:
    name = "bert.encoder.layer.1.attention.self.value.weight"
    assert tensors[name].shape[0] == tensors[name].shape[1]
    tensors[name] = np.ascontiguousarray(tensors[name].T)


def swap_heads(tensors: Arrays) -> None:
    for leaf in ("weight", "bias"):
        name = f"bert.encoder.layer.0.attention.self.query.{leaf}"
        heads = tensors[name].reshape(4, 6, -1)[[1, 0, 2, 3]]
        tensors[name] = np.ascontiguousarray(heads.reshape(tensors[name].shape))


def round_to_bf16(tensors: Arrays) -> None:
    import ml_dtypes

    name = "bert.encoder.layer.1.output.dense.weight"
    tensors[name] = tensors[name].astype(ml_dtypes.bfloat16).astype(np.float32)


def without_bias(tensors: Arrays) -> None:
    """Adds a bias of 1e-4 on one side only."""
    # Of both signs: the norm that follows takes the mean away.
    bias = tensors["bert.encoder.layer.0.attention.output.dense.bias"]
    bias -= np.float32(1e-4) * np.where(np.arange(bias.size) % 3, 1, -1).astype(np.float32)


def with_nan(tensors: Arrays) -> None:
    model = ModelFolder(BERT)
    (first, *_) = load_samples(infer_task(model), model)
    token = model.tokenizer(first["text"])["input_ids"][2]
    tensors["bert.embeddings.word_embeddings.weight"][token] = np.nan


def no_change(tensors: Arrays) -> None:
    pass


LAYER = "bert.encoder.layer"
WEIGHTS = {
    "transposed": (transpose_value, {}, f"{LAYER}.1.attention.self.value"),
    "swapped heads": (swap_heads, {}, f"{LAYER}.0.attention.self.query"),
    "bf16 rounding": (round_to_bf16, {}, f"{LAYER}.1.output.dense"),
    "missing bias": (without_bias, {}, f"{LAYER}.0.attention.output.dense"),
    "nan": (with_nan, {}, "bert.embeddings.word_embeddings"),
    "epsilon": (no_change, {"layer_norm_eps": 1e-5}, "bert.embeddings.LayerNorm"),
    "gelu": (no_change, {"hidden_act": "gelu_new"}, f"{LAYER}.0.intermediate.intermediate_act_fn"),
}
FAR_BEYOND_NOISE = ("epsilon", "bf16 rounding", "missing bias")
"""Small faults that the reason of ``rms_factor`` names: more than 20 times the noise."""
ELSEWHERE = {
    # TensorFlow and Flax have no module of its own for it.
    "gelu": {"tensorflow": f"{LAYER}.0.intermediate", "flax": f"{LAYER}.0.intermediate"},
    # TF's embeddings are one layer whose tables are weights, not layers.
    "nan": {"tensorflow": "bert.embeddings"},
}


@pytest.mark.parametrize("backend", ["pytorch", "tensorflow", "flax"])
@pytest.mark.parametrize("fault", WEIGHTS)
def test_weights_and_config(fault: str, backend: str, workers: WorkerPool, tmp_path: Path) -> None:
    change, config, module = WEIGHTS[fault]
    faulty = copy(BERT, tmp_path / "faulty", change, **config)
    if backend != "pytorch":
        convert(faulty, tmp_path / backend, to=backend)
        faulty = tmp_path / backend
    result = validate_backend(Request(BERT, [faulty], backends=[]), workers)
    assert_caught(result, ELSEWHERE.get(fault, {}).get(backend, module))
    if fault in FAR_BEYOND_NOISE:
        ratios = [output.ratio or 0 for case in result.cases for output in case.outputs]
        assert max(ratios) > 20


@pytest.mark.parametrize("backend", ["torchscript", "torch-export", "onnx"])
@pytest.mark.parametrize(
    ("fault", "module", "cases"),
    [
        ("shifted_positions", "bert.embeddings.position_embeddings", None),
        ("ignored_mask", f"{LAYER}.0.attention.self", ["batch", "padded"]),
    ],
)
def test_programs(
    fault: str,
    module: str,
    cases: list[str] | None,
    backend: str,
    workers: WorkerPool,
    tmp_path: Path,
) -> None:
    program = make_program(backend, tmp_path, FAULTY / f"{fault}.py", workers)
    result = validate_backend(Request(BERT, [program], backends=[], cases=cases), workers)
    assert_caught(result, module)


@pytest.mark.parametrize("backend", ["torchscript", "torch-export", "onnx"])
def test_correct_programs(backend: str, workers: WorkerPool, tmp_path: Path) -> None:
    result = validate_backend(
        Request(BERT, [make_program(backend, tmp_path, None, workers)], backends=[]), workers
    )
    assert result.verdict in FINE, result
    assert [case.case for case in result.cases][-1] == "samples 4-5"
    assert len(result.cases) == 8


@pytest.mark.parametrize(
    ("fault", "case", "module"),
    [
        ("stale_cache", "greedy-cache", "transformer.h.0.attn"),
        ("no_positions", "batch", "transformer.wpe"),
    ],
)
def test_generation(fault: str, case: str, module: str, workers: WorkerPool) -> None:
    """Faults that only generation reveals: a stale cache, and wrong positions in a left-padded batch."""
    request = Request(GPT2, backends=[str(FAULTY / f"{fault}.py")], cases=[case])
    assert_caught(validate_backend(request, workers), module)


def test_skipped_cases_do_not_shift_the_others(workers: WorkerPool) -> None:
    """A program without a cache skips cases; the divergence is located with the inputs of the case that diverged."""
    backend = str(FAULTY / "no_positions_no_cache.py")
    result = validate_backend(Request(GPT2, backends=[backend]), workers)
    assert any("no cache" in note for note in result.notes)
    assert_caught(result, "transformer.wpe")
    assert result.divergence is not None
    off = [case.case for case in result.cases if case.verdict not in FINE]
    assert result.divergence.case == off[0]


def test_ignored_mask_without_padding(workers: WorkerPool, tmp_path: Path) -> None:
    """Only padded batches can reveal an ignored mask; a single sample must not raise an alarm."""
    program = make_program("torch-export", tmp_path, FAULTY / "ignored_mask.py", workers)
    result = validate_backend(
        Request(BERT, [program], backends=[], cases=["single", "long"]), workers
    )
    assert result.verdict in FINE


def test_repro_reproduces_the_fault(workers: WorkerPool, tmp_path: Path) -> None:
    faulty = copy(BERT, tmp_path / "faulty", transpose_value)
    request = Request(BERT, [faulty], backends=[], repro=tmp_path / "repro")
    result = validate_backend(request, workers)
    assert result.divergence is not None
    script = Path(result.divergence.repro) / "repro.py"
    assert {path.name for path in script.parent.iterdir()} == {
        *("weights.safetensors", "inputs.safetensors", "outputs.safetensors"),
        *("config.json", "repro.py", "repro.json"),
    }
    imported = set(re.findall(r"^(?:from|import) (\w+)", script.read_text(), re.MULTILINE))
    assert imported == {"pathlib", "torch", "safetensors", "transformers"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    off = {}
    for line in done.stdout.splitlines():
        if "off the truth by" in line:
            name, _, value = line.partition(": off the truth by ")
            off[name.strip()] = float(value)
    assert off["this script"] < 1e-5
    assert off["reference"] < 1e-5
    assert off["pytorch (faulty)"] > 0.01


def make_program(backend: str, folder: Path, patch: Path | None, workers: WorkerPool) -> Path:
    model = ModelFolder(BERT)
    task = infer_task(model)
    batch = task.encode(model, task.cases(model, load_samples(task, model))[1])
    np.savez(folder / "inputs.npz", **batch.arrays)
    environment: WorkerProcess = workers.get("pytorch")
    return Path(
        environment.call(
            programs.__file__,
            "make",
            kind=backend,
            folder=str(BERT),
            class_name=model.class_name,
            inputs=str(folder / "inputs.npz"),
            output=str(folder / backend),
            patch=str(patch or ""),
        )
    )


def validate_backend(request: Request, workers: WorkerPool) -> BackendResult:
    (result,) = validate(request, workers).backends
    assert not result.failure, result.failure
    return result


def assert_caught(result: BackendResult, module: str) -> None:
    assert result.verdict in (Verdict.DECISION_SAFE, Verdict.DIVERGED)
    assert result.divergence is not None, result.notes
    assert result.divergence.module == module
    for path, error in result.divergence.inputs.items():
        assert error < result.divergence.error, path
