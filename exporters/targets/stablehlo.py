"""StableHLO: a program of ``jax.export`` with its weights beside it in the Flax layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.exporters.base import Source
from equipoise.exporters.loading import WEIGHTS


class StableHlo:
    """A program of two arguments: the tree of weights, and a dict of inputs; its outputs are a dict."""

    name = "stablehlo"
    program = "program.jax"
    extra = "flax"
    needs = ("torch", "transformers", "jax", "flax")
    ways = {  # noqa: RUF012 - a plain attribute of the protocol
        "export": "torch.export, then ATen's operators in JAX",
        "transformers": "DynamoExporter of transformers.exporters, then ATen's operators in JAX",
    }

    def make(self, way: str, source: Source, path: Path) -> dict[str, Any]:
        """Exports the module and lowers the graph for CPU, CUDA and TPU at once."""
        from flax.serialization import msgpack_serialize

        from equipoise.exporters.jax_program import program_of
        from equipoise.exporters.lowering import program

        made = program_of(program.graph_of(source, way), source)
        path.write_bytes(made.program)
        path.with_name(WEIGHTS).write_bytes(msgpack_serialize(made.tree))
        return {"notes": made.notes}


TARGET = StableHlo()
