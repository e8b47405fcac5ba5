"""StableHLO: a program of ``jax.export`` with its weights next to it in the Flax layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.exporters.artifact_files import JAX_PROGRAM, JAX_WEIGHTS
from equipoise.exporters.cache_names import WHOLE_MODEL
from equipoise.exporters.programs.graph_target import GraphTarget
from equipoise.exporters.target import ExportableModel


class StableHlo(GraphTarget):
    """A program of two arguments, the tree of weights and a dict of inputs, that returns a dict."""

    name = "stablehlo"
    program = JAX_PROGRAM
    extra = "flax"
    needs = ("torch", "transformers", "jax", "flax")
    ways = {  # noqa: RUF012 - an attribute of the protocol
        "export": "torch.export, then ATen's operators in JAX",
        "transformers": "DynamoExporter of transformers.exporters, then ATen's operators in JAX",
    }

    def make_graphs(
        self, way: str, sources: Mapping[str, ExportableModel], path: Path
    ) -> dict[str, dict[str, Any]]:
        """Lowers the graphs for CPU, CUDA and TPU and writes a program for each; all take the same tree of weights."""
        from flax.serialization import msgpack_serialize

        from equipoise.exporters.programs.jax_program import export_programs
        from equipoise.exporters.programs.lower import lower_models

        graphs = lower_models(sources, way)
        serialized = export_programs(graphs)
        reports = {}
        for role, program in serialized.programs.items():
            file = path if role == WHOLE_MODEL else path.with_name(f"{role}{path.suffix}")
            file.write_bytes(program)
            reports[role] = {
                "file": file.name,
                **graphs[role].describe(),
                "notes": serialized.notes,
            }
        path.with_name(JAX_WEIGHTS).write_bytes(msgpack_serialize(serialized.tree))
        return reports


TARGET = StableHlo()
