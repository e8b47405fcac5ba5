"""A recurrence exported as a scan agrees with the loop over tokens at any length."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5")

from equipoise.exporters.patches.recurrences import patch_recurrences

pytestmark = pytest.mark.transformers

SIZES = {"vocab_size": 50, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2}


class WithoutCache(torch.nn.Module):  # type: ignore[misc]
    """Wraps a model without a cache as a module with one input."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids, use_cache=False).last_hidden_state


def test_mamba_at_another_length() -> None:
    """Exported at 7 tokens, the program is right at 31; the eager model is unchanged."""
    torch.manual_seed(0)
    model = transformers.MambaModel(transformers.MambaConfig(**SIZES)).eval()
    wrapped = WithoutCache(model)
    texts = [torch.arange(2 * length).reshape(2, length) % 50 for length in (7, 31)]
    with torch.no_grad():
        expected = [wrapped(text) for text in texts]
        assert patch_recurrences(model) == [
            "under torch.export the recurrence is one scan, its length is free"
        ]
        shapes = {"input_ids": {1: torch.export.Dim.AUTO}}
        program = torch.export.export(wrapped, (texts[0],), dynamic_shapes=shapes, strict=False)
        for text, truth in zip(texts, expected, strict=True):
            torch.testing.assert_close(program.module()(text), truth, rtol=0, atol=2e-6)
        for text, truth in zip(texts, expected, strict=True):
            assert torch.equal(wrapped(text), truth)


def test_models_without_a_recurrence() -> None:
    """Models without a recurrence are left alone."""
    assert patch_recurrences(torch.nn.Linear(2, 2)) == []


class Tokens(torch.nn.Module):  # type: ignore[misc]
    """Wraps a part of a model over tokens as a module with one input."""

    def __init__(self, part: torch.nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        exported, (hidden, cell) = self.part(x)
        again, _ = self.part(x, (hidden + 1, cell - 1))
        return exported, hidden, cell, again


def right_at_other_lengths(
    module: torch.nn.Module, examples: list[torch.Tensor], axis: int
) -> None:
    """Exports at the first length and asserts equal results at all, in the program and in the eager model."""
    with torch.no_grad():
        expected = [module(one) for one in examples]
        assert patch_recurrences(module)
        shapes = ({axis: torch.export.Dim.DYNAMIC},)
        exported = torch.export.export(module, (examples[0],), dynamic_shapes=shapes, strict=False)
        for one, truth in zip(examples, expected, strict=True):
            torch.testing.assert_close(exported.module()(one), truth, rtol=0, atol=2e-6)
            torch.testing.assert_close(module(one), truth, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"batch_first": True},
        {"num_layers": 2, "bidirectional": True},
        {"num_layers": 3, "dropout": 0.5},
    ],
)
def test_lstm(settings: dict[str, object]) -> None:
    torch.manual_seed(0)
    module = Tokens(torch.nn.LSTM(5, 4, **settings)).eval()
    first = settings.get("batch_first", False)
    examples = [torch.randn((3, n, 5) if first else (n, 3, 5)) for n in (7, 12)]
    right_at_other_lengths(module, examples, 1 if first else 0)


@pytest.mark.filterwarnings(
    "ignore:The tensor attributes"
)  # PyTorch's own of what the module keeps.
def test_unsupported_lstm() -> None:
    """An LSTM with a projection is left alone."""
    torch.manual_seed(0)
    module = Tokens(torch.nn.LSTM(5, 4, proj_size=3)).eval()
    patch_recurrences(module)
    x = torch.randn(7, 3, 5)
    with torch.no_grad():
        exported = torch.export.export(module, (x,), strict=False)
        torch.testing.assert_close(exported.module()(x), module(x))


def text_model(name: str, **config: object) -> WithoutCache:
    torch.manual_seed(0)
    exported = getattr(transformers, f"{name}Config")(**config)
    return WithoutCache(getattr(transformers, f"{name}Model")(exported).eval())


def test_rwkv() -> None:
    module = text_model(
        "Rwkv", vocab_size=50, hidden_size=16, attention_hidden_size=16, num_hidden_layers=2
    )
    right_at_other_lengths(module, [torch.arange(2 * n).reshape(2, n) % 50 for n in (7, 31)], 1)


@pytest.mark.filterwarnings(
    "ignore:The tensor attributes"
)  # PyTorch's own of what the module keeps.
def test_recurrent_gemma() -> None:
    module = text_model(
        "RecurrentGemma",
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        lru_width=16,
        attention_window_size=64,
        head_dim=8,
    )
    right_at_other_lengths(module, [torch.arange(2 * n).reshape(2, n) % 50 for n in (7, 31)], 1)
