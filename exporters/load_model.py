"""Loads a PyTorch model the one way in which references, backends and exporters compare: eager attention, one dtype."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.convert.core.framework_types import TorchModel
from equipoise.exporters.sentence.forward import add_sentence_modules
from equipoise.exporters.sentence.modules import split_class_name

ATTENTION = "eager"
"""Every side computes attention with plain matrix products; fused kernels round differently."""


def load_pytorch_model(folder: str, class_name: str, dtype: str | None = None) -> TorchModel:
    """Loads a model of transformers with eager attention.

    Args:
        folder: A folder in PyTorch's layout.
        class_name: Name of the class in transformers; see also :func:`split_class_name`.
        dtype: Dtype of the weights, such as ``float32``; None keeps the dtype of the file.
    """
    model, _ = load_pytorch_model_with_info(folder, class_name, dtype)
    return model


def load_pytorch_model_with_info(
    folder: str, class_name: str, dtype: str | None = None
) -> tuple[TorchModel, dict[str, Any]]:
    """Loads a model; returns it with the missing, unexpected and mismatched keys of the loading."""
    import transformers

    name, has_modules = split_class_name(class_name)
    model, info = getattr(transformers, name).from_pretrained(
        folder,
        output_loading_info=True,
        attn_implementation=ATTENTION,
        trust_remote_code=False,
        **_dtype_argument(dtype),
    )
    if has_modules:
        model = add_sentence_modules(model, Path(folder))
    return model, info


def _dtype_argument(dtype: str | None) -> dict[str, Any]:
    """Returns the keyword argument for a dtype: ``torch_dtype`` was renamed to ``dtype`` in transformers 5."""
    import torch
    import transformers

    if not dtype:
        return {}
    name = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"
    return {name: getattr(torch, dtype)}
