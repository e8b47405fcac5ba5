"""TorchScript: one file that PyTorch runs without the model's code."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from equipoise.exporters.patches.symbolic_builtins import rows_kept_together
from equipoise.exporters.target import ExportableModel


class TorchScript:
    """A traced module that returns a dict."""

    name = "torchscript"
    program = "model.pt"
    extra = "torch"
    needs = ("torch", "transformers")
    ways = {  # noqa: RUF012 - an attribute of the protocol
        "trace": "torch.jit.trace",
        "rows": "torch.jit.trace, with the rows of a batch kept together",
    }

    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        """Traces the module itself: a trace of its exported program would have the sizes of the example."""
        import torch

        example = tuple(source.tensors.values())
        with rows_kept_together(source.model) if way == "rows" else nullcontext():
            traced = torch.jit.trace(source.module, example, strict=False, check_trace=False)
        traced.save(str(path))
        return {}


TARGET = TorchScript()
