"""A faulty PyTorch backend whose fault is in what recording switches off, as in a fused operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from equipoise.validators.backends.base import Array
from equipoise.validators.backends.classes import pytorch


def load(folder: str, class_name: str, options: dict[str, Any]) -> Session:
    good = pytorch.load(folder, class_name, options)
    good.__class__ = Session
    return good  # type: ignore[return-value]


class Session(pytorch.Session):
    is_recording = False

    def run(self, inputs: dict[str, Array], kwargs: dict[str, Any]) -> Any:
        outputs = super().run(inputs, kwargs)
        if not self.is_recording:
            outputs["logits"] += 0.25
        return outputs

    @contextmanager
    def record_modules(self) -> Iterator[Any]:
        self.is_recording = True
        with super().record_modules() as records:
            yield records
        self.is_recording = False
