"""A PyTorch backend that declares float32 and rounds the factors of matrix products to TensorFloat-32."""

from __future__ import annotations

from typing import Any

from equipoise.validators.backends.classes import pytorch


def load(folder: str, class_name: str, options: dict[str, Any]) -> pytorch.Session:
    return pytorch.load(folder, class_name, {**options, "factors": "tf32"})
