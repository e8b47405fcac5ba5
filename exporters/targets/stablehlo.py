"""StableHLO: a program of ``jax.export`` with its weights beside it in the Flax layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.exporters.load import WEIGHTS
from equipoise.exporters.target import ExportableModel


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

    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        """Exports the module and lowers the graph for CPU, CUDA and TPU at once."""
        made = self.make_graphs(way, {"model": source}, path)["model"]
        return {name: made[name] for name in ("graph_inputs", "graph_outputs", "notes")}

    def make_graphs(
        self, way: str, sources: Mapping[str, ExportableModel], path: Path
    ) -> dict[str, dict[str, Any]]:
        """The same with several graphs: a program for each, which all take the same tree of weights."""
        from flax.serialization import msgpack_serialize

        from equipoise.exporters.programs.jax_program import export_programs, lower_models

        graphs = lower_models(sources, way)
        made = export_programs(graphs)
        told = {}
        for role, program in made.programs.items():
            file = path if role == "model" else path.with_name(f"{role}{path.suffix}")
            file.write_bytes(program)
            told[role] = {"file": file.name, **graphs[role].about(), "notes": made.notes}
        path.with_name(WEIGHTS).write_bytes(msgpack_serialize(made.tree))
        return told


TARGET = StableHlo()
