"""A PyTorch backend that is wrong for texts of 33 tokens alone: the rest of a block of 32."""

from __future__ import annotations

from typing import Any

from equipoise.validators.backends.base import Array
from equipoise.validators.backends.classes import pytorch


def load(folder: str, class_name: str, options: dict[str, Any]) -> Session:
    good = pytorch.load(folder, class_name, options)
    good.__class__ = Session
    return good  # type: ignore[return-value]


class Session(pytorch.Session):
    def run(self, inputs: dict[str, Array], kwargs: dict[str, Any]) -> Any:
        outputs = super().run(inputs, kwargs)
        outputs["logits"] = outputs["logits"].clone()
        if inputs["input_ids"].shape[1] == 33:
            outputs["logits"] += 0.5
        return outputs
