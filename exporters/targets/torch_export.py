"""torch.export: PyTorch's own program format (``.pt2``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.exporters.shapes.branch_check import check_size_branches
from equipoise.exporters.shapes.input_specs import limit_notes
from equipoise.exporters.target import ExportableModel
from equipoise.exporters.torch_export import export_with_strategy


class TorchExport:
    """An ``ExportedProgram`` that returns a dict."""

    name = "torch-export"
    program = "model.pt2"
    extra = "torch"
    needs = ("torch", "transformers")
    ways = {  # noqa: RUF012 - an attribute of the protocol
        "export": "torch.export",
        "transformers": "DynamoExporter of transformers.exporters",
    }

    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        """Exports the module, plainly or as transformers does it."""
        import torch

        checked = check_size_branches(source, lambda one: export_with_strategy(one, way))
        torch.export.save(checked.program, str(path))
        names = tuple(source.tensors)
        return {"notes": limit_notes(checked.limits, checked.program, names, source.axes)}


TARGET = TorchExport()
