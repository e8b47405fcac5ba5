"""Sessions of one model hold one copy of its weights, and each computes with the weights that it asks for."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from task_models import ROOT

from equipoise.validators.backends.classes import pytorch
from equipoise.validators.backends.classes._shared_weights import perturb_weights

pytestmark = [pytest.mark.transformers]

BERT = str(ROOT / "tasks" / "text-classification")
CLASS = "BertForSequenceClassification"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_move_to_their_neighbours_and_back(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(37, 19).to(dtype).requires_grad_(requires_grad=False)
    model.weight[0, :3] = torch.tensor([0.0, -0.0, torch.finfo(dtype).max])
    before = model.weight.clone()
    perturb_weights(model, 3)
    after = model.weight.clone()
    larger = torch.nextafter(before, torch.tensor(torch.inf, dtype=dtype))
    smaller = torch.nextafter(before, torch.tensor(-torch.inf, dtype=dtype))
    assert torch.equal(after[0, :3], before[0, :3])
    moved = torch.ones_like(before, dtype=torch.bool)
    moved[0, :3] = False
    assert ((after == larger) | (after == smaller))[moved].all()
    assert 0.3 < (after == larger)[moved].float().mean() < 0.7
    perturb_weights(model, 3, undo=True)
    assert torch.equal(model.weight, before)


def test_sessions_share_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where a test before this one imported PyTorch's own test helpers, its flags are frozen.
    monkeypatch.setattr(pytorch._torch, "pin_numerics", lambda options: None)
    torch.set_grad_enabled(False)
    options = {"dtype": "float32", "share": True}
    reference = pytorch.load(BERT, CLASS, options)
    truth = pytorch.load(BERT, CLASS, {**options, "dtype": "float64"})
    noisy = pytorch.load(BERT, CLASS, {**options, "jitter": 1})
    assert reference.model is truth.model is noisy.model
    alone = pytorch.load(BERT, CLASS, {"dtype": "float32", "jitter": 1})
    assert alone.model is not reference.model
    ids = np.arange(5, 22)[None]
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    first = reference.run(inputs, {}).logits.numpy()
    exact = truth.run(inputs, {}).logits.numpy()
    perturbed = noisy.run(inputs, {}).logits.numpy()
    again = reference.run(inputs, {}).logits.numpy()
    assert np.array_equal(first, again)
    assert np.array_equal(perturbed, alone.run(inputs, {}).logits.numpy())
    assert exact.dtype == np.float64
    assert 0 < np.abs(first - exact).max() < 1e-5
    assert 0 < np.abs(perturbed - first).max() < 1e-4


def test_experts_are_computed_in_a_loop_in_float64_alone() -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=53, hidden_size=24, intermediate_size=28, num_hidden_layers=2,
        num_attention_heads=3, num_key_value_heads=1, num_local_experts=3,
    )  # fmt: skip
    model = transformers.MixtralForCausalLM(config).eval()
    usual = model.config._experts_implementation
    session = pytorch.Session(model, {}, {"dtype": "float64"})
    other = pytorch.Session(model, {}, {"dtype": "float32"}, "", session.weights)
    inputs = {"input_ids": np.arange(3, 10)[None]}
    assert session.run(inputs, {}).logits.dtype == torch.float64
    assert model.config._experts_implementation == "eager"
    assert other.run(inputs, {}).logits.dtype == torch.float32
    assert model.config._experts_implementation == usual
