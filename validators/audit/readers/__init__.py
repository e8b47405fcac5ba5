"""Readers of programs, one module a format, under the names of the backends that run them.

A module defines ``read(path)``, which returns a :class:`~equipoise.validators.audit.content.weights.ProgramContent`; the path is
what the backend loads. A reader opens files as data: it imports no framework and runs nothing of the program.
"""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.checkpoints.opening.open_checkpoint import open_checkpoint
from equipoise.convert.core.plugins import PluginFolder
from equipoise.validators.audit.content.weights import ProgramContent, parameters

_READERS = PluginFolder(__name__)


def read_program(backend: str, path: Path) -> ProgramContent:
    """Reads all weights and constants of a program, or of a checkpoint for backends that run classes; reads headers only.

    Args:
        backend: The backend that runs it.
        path: What the backend loads.

    Raises:
        ContainerError: A file is corrupt, or of a form that is not known.
        CheckpointError: A file is missing.
    """
    if backend in _READERS.names():
        content: ProgramContent = _READERS.module(backend).read(path)
        return content
    return ProgramContent(parameters(open_checkpoint(path).values()))
