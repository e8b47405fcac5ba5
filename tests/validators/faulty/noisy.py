"""A PyTorch backend that prints to standard output, also through the file descriptor; its results are right."""

from __future__ import annotations

import os
from typing import Any

from equipoise.validators.backends.base import Array
from equipoise.validators.backends.classes import pytorch


def load(folder: str, class_name: str, options: dict[str, Any]) -> Session:
    good = pytorch.load(folder, class_name, options)
    good.__class__ = Session
    return good  # type: ignore[return-value]


class Session(pytorch.Session):
    passes = 0

    def run(self, inputs: dict[str, Array], kwargs: dict[str, Any]) -> Any:
        print("garbage" * 1000, flush=True)
        os.write(1, b"\\x00\\xff{not a frame}" * 100)
        return super().run(inputs, kwargs)
