"""torch.export: parameters, buffers and constants of a ``.pt2`` archive."""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.containers.pytorch import read_exported_program
from equipoise.validators.audit.content.weights import ProgramContent
from equipoise.validators.audit.readers._archives import archive_weights


def read(path: Path) -> ProgramContent:
    """Reads a ``.pt2`` file."""
    return ProgramContent(archive_weights(read_exported_program(path)))
