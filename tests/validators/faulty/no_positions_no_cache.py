"""A faulty PyTorch backend without a cache: positions count the left padding."""

from __future__ import annotations

from typing import Any

from equipoise.validators.backends.classes import pytorch


def load(folder: str, class_name: str, options: dict[str, Any]) -> Session:
    good = pytorch.load(folder, class_name, options)
    good.__class__ = Session
    good.caches = False
    return good  # type: ignore[return-value]


class Session(pytorch.Session):
    def _forward(self, tensors: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        inputs = {name: value for name, value in tensors.items() if name != "position_ids"}
        return super()._forward(inputs, kwargs)
