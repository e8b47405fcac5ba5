"""Runs StableHLO: programs that ``jax.export`` serialized, with their weights in the same folder.

The folder contains ``program.jax``, or for an encoder-decoder model with a KV cache ``encoder.jax``, ``decoder.jax`` and
``decoder_with_past.jax``, and, if the programs take their weights as first argument, ``flax_model.msgpack``. A
program's inputs are one dict of arrays; its outputs are a dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from equipoise.convert.core.framework_types import JaxTree
from equipoise.exporters.artifact_files import JAX_WEIGHTS, jax_program_files
from equipoise.validators.backends import _graph_cache, _jax
from equipoise.validators.backends.base import Array, Facts, Options

PAST_LENGTH_MULTIPLE = 16
"""Past lengths are rounded up to multiples of this, since XLA compiles a program for every length; see
:class:`equipoise.validators.backends._graph_cache.DecoderGraph`.
"""


def load(folder: str, class_name: str, options: Options) -> Session:
    """Loads the programs of a folder, or of a file; they determine the precision."""
    _jax.pin_numerics(options)
    path = Path(folder)
    return Session(path if path.is_dir() else path.parent)


class Session(_graph_cache.GraphSession):
    """A session of one or three programs of ``jax.export``."""

    def __init__(self, folder: Path) -> None:
        weights_file = folder / JAX_WEIGHTS
        parameters = _load_parameters(weights_file) if weights_file.is_file() else None
        files = jax_program_files(folder)
        self.programs = {role: Program(file, parameters) for role, file in files.items()}
        self.model = _graph_cache.assemble_graphs(self.programs, PAST_LENGTH_MULTIPLE)
        self.accepts, self.caches = self.model.accepts, self.model.caches

    def about(self) -> Facts:
        """Describes device, precision and switches as JAX reports them."""
        programs = [program.exported for program in self.programs.values()]
        dtypes = [str(aval.dtype) for program in programs for aval in program.in_avals]
        floating = [name for name in dtypes if "float" in name]
        return {
            **_jax.describe_runtime(),
            "precision": floating[0] if floating else "float32",
            "implementation": "jax.export",
        }


class Program:
    """A program of ``jax.export`` with its weights."""

    def __init__(self, file: Path, parameters: JaxTree) -> None:
        from jax import export
        from jax.tree_util import tree_unflatten

        self.exported = export.deserialize(bytearray(file.read_bytes()))
        args, _ = tree_unflatten(self.exported.in_tree, self.exported.in_avals)
        self.leading_arguments = (parameters,) if len(args) > 1 else ()
        self.inputs = {
            name: _graph_cache.InputSpec(aval.shape, aval.dtype) for name, aval in args[-1].items()
        }

    def call(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the outputs by name."""
        inputs = {
            name: np.asarray(value, dtype=self.inputs[name].dtype) for name, value in values.items()
        }
        # NumPy arrays: JAX computes asynchronously, and would compile a gather for each selection of rows.
        outputs = self.exported.call(*self.leading_arguments, inputs)
        return {name: np.asarray(value) for name, value in outputs.items()}


def _load_parameters(file: Path) -> JaxTree:
    from flax.serialization import msgpack_restore

    return msgpack_restore(file.read_bytes())
