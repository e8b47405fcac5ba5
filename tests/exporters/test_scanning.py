"""A recurrence that is counted by the program gives what the loop over the tokens gives, at any length."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5")

from equipoise.exporters.scanning import as_scan

pytestmark = [pytest.mark.transformers, pytest.mark.xdist_group("exports")]

SIZES = {"vocab_size": 50, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2}


class Plain(torch.nn.Module):  # type: ignore[misc]
    """The model without a cache, as a module of one input."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids, use_cache=False).last_hidden_state


def test_a_longer_text() -> None:
    """Exported at seven tokens, right at thirty-one; the model itself goes on as it did."""
    torch.manual_seed(0)
    model = transformers.MambaModel(transformers.MambaConfig(**SIZES)).eval()
    plain = Plain(model)
    texts = [torch.arange(2 * length).reshape(2, length) % 50 for length in (7, 31)]
    with torch.no_grad():
        expected = [plain(text) for text in texts]
        assert as_scan(model) == [
            "under torch.export the recurrence is one scan, its length is free"
        ]
        shapes = {"input_ids": {1: torch.export.Dim.AUTO}}
        program = torch.export.export(plain, (texts[0],), dynamic_shapes=shapes, strict=False)
        for text, truth in zip(texts, expected, strict=True):
            torch.testing.assert_close(program.module()(text), truth, rtol=0, atol=2e-6)
        for text, truth in zip(texts, expected, strict=True):
            assert torch.equal(plain(text), truth)


def test_no_recurrence() -> None:
    """Any other model is left alone."""
    assert as_scan(torch.nn.Linear(2, 2)) == []
