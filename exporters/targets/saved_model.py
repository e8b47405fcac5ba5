"""SavedModel: a program for TensorFlow Serving, made of a JAX program by ``jax2tf``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.exporters.artifact_files import SAVED_MODEL
from equipoise.exporters.programs.graph_target import GraphTarget
from equipoise.exporters.target import ExportableModel


class SavedModel(GraphTarget):
    """One version of a servable; its signature has the input and output names of the task."""

    name = "saved-model"
    program = SAVED_MODEL
    extra = "tensorflow,flax"
    needs = ("torch", "transformers", "jax", "tensorflow")
    ways = {  # noqa: RUF012 - an attribute of the protocol
        "export": "torch.export, then ATen's operators in JAX, then jax2tf",
        "transformers": "DynamoExporter of transformers.exporters, then ATen's operators in JAX, then jax2tf",
    }

    def make_graphs(
        self, way: str, sources: Mapping[str, ExportableModel], path: Path
    ) -> dict[str, dict[str, Any]]:
        """Lowers the graphs for CPU and CUDA and saves a signature for each; all of them use the same variables."""
        from equipoise.exporters.programs.lower import lower_models
        from equipoise.exporters.programs.tf_function import save_saved_model, signature_name

        graphs = lower_models(sources, way)
        notes = save_saved_model(graphs, path)
        return {
            role: {
                "file": self.program,
                "signature": signature_name(role),
                **graph.describe(),
                "notes": notes,
            }
            for role, graph in graphs.items()
        }


TARGET = SavedModel()
