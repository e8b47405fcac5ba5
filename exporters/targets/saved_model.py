"""SavedModel: TensorFlow's own programs, out of a JAX program by ``jax2tf``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.exporters.target import ExportableModel


class SavedModel:
    """One version of a servable, as TensorFlow Serving wants it; the signature has the names of the task."""

    name = "saved-model"
    program = "saved_model/1"
    extra = "tensorflow"
    needs = ("torch", "transformers", "jax", "tensorflow")
    ways = {  # noqa: RUF012 - a plain attribute of the protocol
        "export": "torch.export, then ATen's operators in JAX, then jax2tf",
        "transformers": "DynamoExporter of transformers.exporters, then ATen's operators in JAX, then jax2tf",
    }

    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        """Exports the module, lowers the graph for CPU and CUDA, and saves it with variables of TensorFlow."""
        made = self.make_graphs(way, {"model": source}, path)["model"]
        return {name: made[name] for name in ("graph_inputs", "graph_outputs", "notes")}

    def make_graphs(
        self, way: str, sources: Mapping[str, ExportableModel], path: Path
    ) -> dict[str, dict[str, Any]]:
        """The same with several graphs: a signature for each, which all use the same variables."""
        from equipoise.exporters.programs.jax_program import lower_models
        from equipoise.exporters.programs.tf_function import save_saved_model, signature_name

        graphs = lower_models(sources, way)
        notes = save_saved_model(graphs, path)
        return {
            role: {
                "file": self.program,
                "signature": signature_name(role),
                **graph.about(),
                "notes": notes,
            }
            for role, graph in graphs.items()
        }


TARGET = SavedModel()
