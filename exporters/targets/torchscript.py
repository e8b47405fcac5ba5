"""TorchScript: one file that PyTorch runs without the model's code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.exporters.base import Source
from equipoise.exporters.tracing import exported


class TorchScript:
    """A traced module; its outputs are a dict."""

    name = "torchscript"
    program = "model.pt"
    extra = "torch"
    needs = ("torch", "transformers")
    ways = {  # noqa: RUF012 - a plain attribute of the protocol
        "trace": "torch.jit.trace",
        "export-trace": "torch.export, then torch.jit.trace of the program",
    }

    def make(self, way: str, source: Source, path: Path) -> dict[str, Any]:
        """Traces the module, or the program that torch.export makes of it."""
        import torch

        module = source.module
        if way == "export-trace":
            module = exported(source).module()
        example = tuple(source.tensors.values())
        traced = torch.jit.trace(module, example, strict=False, check_trace=False)
        traced.save(str(path))
        return {}


TARGET = TorchScript()
