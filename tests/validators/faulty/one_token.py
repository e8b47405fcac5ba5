"""A PyTorch backend that is wrong for texts with one token of the vocabulary, which no sample of the fixture has."""

from __future__ import annotations

from typing import Any

from equipoise.validators.backends.base import Array
from equipoise.validators.backends.classes import pytorch

TOKEN = 92
"""``enjoyed``, the last one."""


def load(folder: str, class_name: str, options: dict[str, Any]) -> Session:
    good = pytorch.load(folder, class_name, options)
    good.__class__ = Session
    return good  # type: ignore[return-value]


class Session(pytorch.Session):
    def run(self, inputs: dict[str, Array], kwargs: dict[str, Any]) -> Any:
        outputs = super().run(inputs, kwargs)
        outputs["logits"] = outputs["logits"].clone()
        outputs["logits"][(inputs["input_ids"] == TOKEN).any(axis=1)] += 0.5
        return outputs
