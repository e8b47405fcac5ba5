"""TorchScript: parameters, buffers and constants of the archive."""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.containers.pytorch import read_torchscript
from equipoise.validators.audit.content.weights import ProgramContent, ProgramWeight


def read(path: Path) -> ProgramContent:
    """Reads a ``.pt`` file."""
    return ProgramContent(tuple(map(ProgramWeight, read_torchscript(path).values())))
