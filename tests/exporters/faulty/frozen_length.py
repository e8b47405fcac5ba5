"""A faulty ONNX target: tokens beyond the length of the example are silently ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.exporters.target import ExportableModel
from equipoise.exporters.targets.onnx import Onnx


class Faulty(Onnx):
    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        forward = source.model.forward
        length = int(source.tensors["input_ids"].shape[1])

        def faulty(**inputs: Any) -> Any:
            import torch

            mask = inputs["attention_mask"]
            read = torch.arange(mask.shape[1]) < length
            return forward(**{**inputs, "attention_mask": mask * read.to(mask.dtype)})

        source.model.forward = faulty
        return super().make(way, source, path)


TARGET = Faulty()
