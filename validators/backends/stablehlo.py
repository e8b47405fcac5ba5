"""StableHLO: a program that ``jax.export`` serialized, with its parameters beside it.

The folder holds ``program.jax`` and, where the program takes its parameters as its first argument,
``flax_model.msgpack``. The program's inputs are one dict of arrays; its outputs are a dict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from equipoise.validators.backends import jax_common
from equipoise.validators.backends.base import Array, Plain

PROGRAM = "program.jax"
PARAMETERS = "flax_model.msgpack"


def load(folder: str, class_name: str, options: dict[str, Any]) -> Session:
    """The program of a folder, or of its file; it fixes its precision."""
    jax_common.pin(options)
    place = Path(folder)
    return Session(place if place.is_dir() else place.parent, options)


class Session(Plain):
    """An ``Exported`` of JAX."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        from jax import export
        from jax.tree_util import tree_unflatten

        self.program = export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
        args, _ = tree_unflatten(self.program.in_tree, self.program.in_avals)
        self.parameters = _parameters(folder / PARAMETERS) if len(args) > 1 else None
        self.inputs = args[-1]
        self.accepts = frozenset(self.inputs)

    def about(self) -> dict[str, Any]:
        """Device, precision and switches as JAX reports them."""
        floating = [str(aval.dtype) for aval in self.program.in_avals if aval.dtype.kind != "i"]
        return {
            **jax_common.about(),
            "precision": floating[0] if floating else "float32",
            "implementation": "jax.export",
        }

    def run(self, inputs: dict[str, Array], kwargs: dict[str, Any]) -> Any:
        """The outputs by their names."""
        import jax

        given = {
            name: np.asarray(value, dtype=self.inputs[name].dtype) for name, value in inputs.items()
        }
        before = () if self.parameters is None else (self.parameters,)
        # JAX returns before it has computed; the time of a pass is that of its values.
        return jax.block_until_ready(self.program.call(*before, given))


def _parameters(file: Path) -> Any:
    from flax.serialization import msgpack_restore

    return msgpack_restore(file.read_bytes())
