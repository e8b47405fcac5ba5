"""StableHLO: a program of ``jax.export`` with its weights beside it in the Flax layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.exporters.base import Source
from equipoise.exporters.loading import WEIGHTS
from equipoise.exporters.tracing import traced


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
        from equipoise.exporters.lowering.program import lowered

        made = program_of(lowered(traced(source, way), tuple(source.tensors)), source)
        path.write_bytes(made.program)
        path.with_name(WEIGHTS).write_bytes(msgpack_serialize(made.tree))
        return {"notes": made.notes}


TARGET = StableHlo()
