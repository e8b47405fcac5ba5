"""A faulty ONNX target: the sequence axis is static, with the length of the example."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from equipoise.exporters.target import ExportableModel
from equipoise.exporters.targets.onnx import Onnx


class Faulty(Onnx):
    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        axes = {name: {0: one[0]} for name, one in source.axes.items()}
        return super().make(way, replace(source, axes=axes), path)


TARGET = Faulty()
