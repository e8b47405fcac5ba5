"""A faulty PyTorch backend: a forward pass allocates more memory than there is."""

from __future__ import annotations

from typing import Any

import numpy as np

from equipoise.validators.backends.base import Array
from equipoise.validators.backends.classes import pytorch


def load(folder: str, class_name: str, options: dict[str, Any]) -> Session:
    good = pytorch.load(folder, class_name, options)
    good.__class__ = Session
    return good  # type: ignore[return-value]


class Session(pytorch.Session):
    passes = 0

    def run(self, inputs: dict[str, Array], kwargs: dict[str, Any]) -> Any:
        np.ones((1 << 38,), np.float64)
        return super().run(inputs, kwargs)
