"""torch.export: PyTorch's own programs (``.pt2``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.exporters.base import Source
from equipoise.exporters.tracing import traced


class TorchExport:
    """An ``ExportedProgram``; its outputs are a dict."""

    name = "torch-export"
    program = "model.pt2"
    extra = "torch"
    needs = ("torch", "transformers")
    ways = {  # noqa: RUF012 - a plain attribute of the protocol
        "export": "torch.export",
        "transformers": "DynamoExporter of transformers.exporters",
    }

    def make(self, way: str, source: Source, path: Path) -> dict[str, Any]:
        """Exports the module, plainly or as transformers does it."""
        import torch

        torch.export.save(traced(source, way), str(path))
        return {}


TARGET = TorchExport()
