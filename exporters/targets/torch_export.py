"""torch.export: PyTorch's own programs (``.pt2``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.exporters.shapes.branch_check import on_both_sides
from equipoise.exporters.shapes.input_specs import told
from equipoise.exporters.target import Source
from equipoise.exporters.torch_export import traced


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

        found = on_both_sides(source, lambda one: traced(one, way))
        torch.export.save(found.program, str(path))
        names = tuple(source.tensors)
        return {"notes": told(found.limits, found.program, names, source.axes)}


TARGET = TorchExport()
