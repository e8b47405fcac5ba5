"""A faulty ONNX target: the first strategy ignores the attention mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.exporters.target import ExportableModel
from equipoise.exporters.targets.onnx import Onnx


class Faulty(Onnx):
    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        if way == "dynamo":
            forward = source.model.forward

            def faulty(**inputs: Any) -> Any:
                mask = inputs["attention_mask"]
                return forward(**{**inputs, "attention_mask": mask * 0 + 1})

            source.model.forward = faulty
        return super().make(way, source, path)


TARGET = Faulty()
