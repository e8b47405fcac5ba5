"""TorchScript: one file that PyTorch runs without the model's code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.exporters.target import ExportableModel


class TorchScript:
    """A traced module that returns a dict."""

    name = "torchscript"
    program = "model.pt"
    extra = "torch"
    needs = ("torch", "transformers")
    ways = {"trace": "torch.jit.trace"}  # noqa: RUF012 - an attribute of the protocol

    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        """Traces the module itself: a trace of its exported program would have the sizes of the example."""
        import torch

        example = tuple(source.tensors.values())
        traced = torch.jit.trace(source.module, example, strict=False, check_trace=False)
        traced.save(str(path))
        return {}


TARGET = TorchScript()
