"""A faulty ONNX target: the program lacks the last output of the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from equipoise.exporters.build import with_named_io
from equipoise.exporters.target import ExportableModel
from equipoise.exporters.targets.onnx import Onnx


class Faulty(Onnx):
    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        outputs = list(source.outputs[:-1])
        module = with_named_io(source.model, list(source.tensors), source.kwargs, outputs)
        return super().make(way, replace(source, module=module, outputs=tuple(outputs)), path)


TARGET = Faulty()
