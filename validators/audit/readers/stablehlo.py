"""JAX programs: the weights in ``flax_model.msgpack``; constants lie in the programs."""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.containers import flax_msgpack
from equipoise.exporters.artifact_files import JAX_WEIGHTS, jax_program_files
from equipoise.validators.audit.content.weights import ProgramContent, parameters


def read(path: Path) -> ProgramContent:
    """Reads the folder of a JAX program, which may be named by the program itself."""
    folder = path if path.is_dir() else path.parent
    stored = flax_msgpack.read(folder / JAX_WEIGHTS).tensors
    programs = tuple(jax_program_files(folder).values())
    return ProgramContent(parameters(stored.values()), opaque=programs)
