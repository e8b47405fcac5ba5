"""A faulty ONNX target: norms use a different epsilon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.exporters.target import ExportableModel
from equipoise.exporters.targets.onnx import Onnx


class Faulty(Onnx):
    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        for module in source.model.modules():
            if hasattr(module, "eps"):
                module.eps = 1e-5
        return super().make(way, source, path)


TARGET = Faulty()
