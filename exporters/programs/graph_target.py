"""Base of targets that write all graphs of a model with shared weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.exporters.cache_names import WHOLE_MODEL
from equipoise.exporters.target import ExportableModel


class GraphTarget:
    """Base of targets that write a whole model like one graph of a model with a KV cache."""

    def make_graphs(
        self, way: str, sources: Mapping[str, ExportableModel], path: Path
    ) -> dict[str, dict[str, Any]]:
        """Writes the graphs of a model; see :class:`~equipoise.exporters.target.SupportsKvCache`."""
        raise NotImplementedError

    def make(self, way: str, source: ExportableModel, path: Path) -> dict[str, Any]:
        """Writes the program of one forward pass; see :class:`~equipoise.exporters.target.Target`."""
        report = self.make_graphs(way, {WHOLE_MODEL: source}, path)[WHOLE_MODEL]
        return {name: report[name] for name in ("graph_inputs", "graph_outputs", "notes")}
