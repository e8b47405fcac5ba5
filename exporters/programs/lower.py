"""Exports models with ``torch.export`` and lowers them to ATen's core operators."""

from __future__ import annotations

from collections.abc import Mapping

from equipoise.exporters.lowering.program import lower
from equipoise.exporters.shapes.branch_check import check_size_branches
from equipoise.exporters.shapes.constraint_search import LoweredGraph
from equipoise.exporters.target import ExportableModel
from equipoise.exporters.torch_export import export_with_strategy


def lower_model(source: ExportableModel, way: str) -> LoweredGraph:
    """Lowers one model or graph with one of the two strategies into ``torch.export``."""
    checked = check_size_branches(source, lambda one: export_with_strategy(one, way))
    return LoweredGraph(lower(checked.program, tuple(source.tensors)), source, checked.limits)


def lower_models(sources: Mapping[str, ExportableModel], way: str) -> dict[str, LoweredGraph]:
    """Lowers the graphs of a model by role."""
    return {role: lower_model(source, way) for role, source in sources.items()}
