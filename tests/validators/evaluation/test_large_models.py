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
from equipoise.validators.runtime.process import WorkerPool, WorkerProcess
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
