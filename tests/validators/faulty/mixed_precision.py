"""A PyTorch backend that declares float32 and runs in automatic mixed precision, without captured modules."""

from __future__ import annotations

from typing import Any

from equipoise.validators.backends.classes import pytorch


def load(folder: str, class_name: str, options: dict[str, Any]) -> Session:
    good = pytorch.load(folder, class_name, {**options, "autocast": "bfloat16"})
    good.__class__ = Session
    return good  # type: ignore[return-value]


class Session(pytorch.Session):
    def record_modules(self) -> Any:
        raise NotImplementedError("modules are not captured")
