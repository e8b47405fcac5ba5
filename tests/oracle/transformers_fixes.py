"""Fixes of bugs in transformers 4.57.6 that prevent a comparison of classes. Runs in the oracle's process."""

from __future__ import annotations

from typing import Any


def apply_fix(name: str) -> None:
    """Applies a fix for the rest of the process."""
    {"type_as": _type_as, "exact_gelu": _exact_gelu}[name]()


def _type_as() -> None:
    """Fixes ``TransfoXLModel``, which calls ``type_as(dtype=...)`` instead of passing a tensor."""
    import torch

    def type_as(tensor: Any, other: Any = None, dtype: Any = None) -> Any:
        return tensor.to(other.dtype if dtype is None else dtype)

    torch.Tensor.type_as = type_as  # type: ignore[method-assign, assignment]


def _exact_gelu() -> None:
    """Gives PyTorch's OpenAI GPT the exact GELU of its TensorFlow class instead of the tanh approximation."""
    import torch
    from transformers.models.openai import modeling_openai

    modeling_openai.ACT_FNS["gelu"] = torch.nn.GELU()  # type: ignore[attr-defined]
