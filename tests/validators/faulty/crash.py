"""A faulty PyTorch backend: the process dies in its second forward pass."""

from __future__ import annotations

import os
import signal
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
        Session.passes += 1
        if Session.passes > 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().run(inputs, kwargs)
