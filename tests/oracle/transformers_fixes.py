"""Mistakes of transformers 4.57.6 that keep PyTorch's class from being compared, taken out. Runs in the oracle."""

from __future__ import annotations

from typing import Any


def apply_fix(name: str) -> None:
    """Takes out one, for good."""
    {"type_as": _type_as, "exact_gelu": _exact_gelu}[name]()


def _type_as() -> None:
    """``TransfoXLModel`` calls ``type_as(dtype=...)``, where a tensor is wanted."""
    import torch

    def type_as(tensor: Any, other: Any = None, dtype: Any = None) -> Any:
        return tensor.to(other.dtype if dtype is None else dtype)

    torch.Tensor.type_as = type_as  # type: ignore[method-assign, assignment]


def _exact_gelu() -> None:
    """The TensorFlow class of OpenAI GPT computes another GELU than PyTorch's: PyTorch's gets TensorFlow's."""
    import torch
    from transformers.models.openai import modeling_openai

    modeling_openai.ACT_FNS["gelu"] = torch.nn.GELU()  # type: ignore[attr-defined]
