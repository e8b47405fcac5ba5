"""A faulty ONNX target: every strategy raises an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.exporters.target import ExportableModel
from equipoise.exporters.targets.onnx import Onnx


class Faulty(Onnx):
    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        path.write_text("half")
        raise ValueError("not today")


TARGET = Faulty()
