"""Large models: float64 truth without a second set of weights, and one copy of the model at a time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from task_models import ROOT

from equipoise.validators.backends._float64 import float64_mode
from equipoise.validators.core.request import Request
from equipoise.validators.evaluation import context as setups
from equipoise.validators.export.export import ExportRequest, export_model
from equipoise.validators.judgement.results import Verdict
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.runtime.process import WorkerPool, WorkerProcess
from equipoise.validators.tasks.shared import generation as generation_helpers
from equipoise.validators.tasks.text_generation import TASK
from equipoise.validators.validate import validate

pytestmark = [pytest.mark.transformers]

BERT = ROOT / "tasks" / "text-classification"
FINE = (Verdict.IDENTICAL, Verdict.WITHIN_NOISE)


class NarrowingModel(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Casts to narrower types in every way that models use, and has layers that look at dtypes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(19, 12)
        self.norm = torch.nn.LayerNorm(12)
        self.batch = torch.nn.BatchNorm1d(7)
        self.heads = torch.nn.MultiheadAttention(12, 3, batch_first=True)
        self.loop = torch.nn.LSTM(12, 5, batch_first=True, bidirectional=True)
        self.wave = torch.nn.Conv1d(12, 6, 3, padding=1, padding_mode="circular")
        self.scale = torch.nn.Parameter(torch.rand(12))
        self.register_buffer("shift", torch.rand(12))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens) * self.scale + self.shift
        x = self.norm(x.float()).to(self.norm.weight.dtype)
        x = torch.nn.functional.softmax(x, dim=-1, dtype=torch.float32).type_as(self.scale)
        x = self.batch(x) + torch.full_like(x, 0.1, dtype=torch.float32)
        x[:, 0] = self.shift
        x = self.heads(x, x, x, need_weights=False)[0]
        loop, _ = self.loop(x)
        wave = self.wave(x.transpose(1, 2)).transpose(1, 2)
        tied = torch.nn.functional.linear(x, self.table.weight)
        return torch.cat([loop, wave, tied, self.scale.expand(*x.shape[:2], -1)], dim=-1)


def test_truth_equals_a_float64_model() -> None:
    torch.manual_seed(0)
    model = NarrowingModel().eval()
    model.batch.running_mean.copy_(torch.rand(7))
    model.batch.running_var.copy_(torch.rand(7) + 0.5)
    tokens = torch.randint(0, 19, (3, 7))
    with torch.no_grad():
        narrow = model(tokens)
        with float64_mode():
            found = model(tokens)
        assert {value.dtype for value in model.state_dict().values()} == {
            torch.float32,
            torch.int64,
        }
        with float64_mode():
            expected = model.double()(tokens)
    assert found.dtype == torch.float64
    assert torch.get_default_dtype() == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    assert 1e-9 < (narrow - expected).abs().max() < 1e-5


class CountingPool(WorkerPool):
    """Counts how many processes hold a PyTorch model at the same time."""

    most = 0

    def get(self, backend: str, *, suffix: str = "") -> WorkerProcess:
        found = super().get(backend, suffix=suffix)
        loaded = [key for key in self._processes if key.startswith("pytorch")]
        self.most = max(self.most, len(loaded))
        return found


@pytest.mark.slow
def test_one_process_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(setups, "LARGE_MODEL_BYTES", 1)
    with CountingPool(time_limit=300) as workers:
        request = Request(BERT, cases=["single", "batch"])
        found = export_model(ExportRequest(request, tmp_path / "out", "torchscript"), workers)
        assert found.verdict in FINE
        assert workers.most == 1


@pytest.mark.slow
def test_a_divergence_is_located(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(BERT, tmp_path / "faulty")
    tensors = load_file(tmp_path / "faulty" / "model.safetensors")
    tensors["bert.encoder.layer.0.output.dense.bias"][::2] += 0.5
    save_file(tensors, tmp_path / "faulty" / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr(setups, "LARGE_MODEL_BYTES", 1)
    request = Request(BERT, [tmp_path / "faulty"], backends=[], cases=["single"])
    (result,) = validate(request).backends
    assert result.verdict not in FINE
    assert result.divergence is not None
    assert result.divergence.module == "bert.encoder.layer.0.output.dense"


GPT = ROOT / "tasks" / "text-generation"
LOOPS = ("greedy", "beam", "batch", "over-power", "batch-5")


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every model a large one, whose loops generate four tokens."""
    monkeypatch.setattr(setups, "LARGE_MODEL_BYTES", 1)
    weights = ModelFolder(GPT).weight_count
    monkeypatch.setattr(generation_helpers, "LOOP_WEIGHTS", 4 * weights)


@pytest.mark.usefixtures("large")
def test_loops_of_a_large_model_follow_those_with_a_cache_in_one_pass() -> None:
    report = validate(Request(GPT, backends=["pytorch"]))
    passes = {case.case: len(case.seconds) for case in report.reference.cases}
    assert {name: passes[name] for name in LOOPS} == dict.fromkeys(LOOPS, 1)
    assert passes["greedy-cache"] == passes["batch-cache"] == 4
    assert passes["over-power-cache"] == passes["batch-5-cache"] == 3
    (result,) = report.backends
    assert result.verdict in FINE
    assert {case.case: len(case.seconds) for case in result.cases} == passes
    assert any(
        "greedy: as in all cases that generate, 4 tokens" in n for n in report.reference.notes
    )


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("name", ["no_positions_no_cache", "rows_from_four_on", "stale_cache"])
def test_faults_of_loops_are_found_in_large_models(name: str) -> None:
    backend = str(Path(__file__).parents[1] / "faulty" / f"{name}.py")
    report = validate(Request(GPT, backends=[backend], divergence=False))
    assert report.backends[0].verdict is Verdict.DIVERGED


def test_small_models_generate_what_their_config_says() -> None:
    model = ModelFolder(GPT)
    names = {case.name: case for case in TASK.cases(model, TASK.samples(model))}
    assert "max_new_tokens" not in names["greedy-cache"].options
    assert not names["greedy"].note
