"""TorchScript: parameters, buffers and constants of the archive."""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.containers.pytorch import read_torchscript
from equipoise.validators.audit.content.weights import ProgramContent
from equipoise.validators.audit.readers._archives import archive_weights


def read(path: Path) -> ProgramContent:
    """Reads a ``.pt`` file."""
    return ProgramContent(archive_weights(read_torchscript(path)))
