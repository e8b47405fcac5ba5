"""Exports a model with ``torch.export``, plainly or through transformers' exporters, with dynamic axes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from unittest import mock

from equipoise.convert.core.framework_types import ExportedProgram, FxNode, TorchTensor
from equipoise.exporters.patches.symbolic_builtins import symbolic_builtins
from equipoise.exporters.target import ExportableModel, argument_name


def export_program(source: ExportableModel) -> ExportedProgram:
    """Exports with ``torch.export``; PyTorch infers how the dynamic axes depend on each other.

    The program is called with keywords, as the model is; it refuses tensors in any order.
    """
    import torch

    with symbolic_builtins(source.model):
        return torch.export.export(
            source.module,
            (),
            named_tensors(source),
            dynamic_shapes=_dynamic_shapes(source),
            strict=False,
        )


def named_tensors(source: ExportableModel) -> dict[str, TorchTensor]:
    """Returns the example inputs by the names of the program's arguments."""
    return {argument_name(name): value for name, value in source.tensors.items()}


def export_with_strategy(source: ExportableModel, way: str) -> ExportedProgram:
    """Exports with one of the two strategies into ``torch.export``: ``export`` or ``transformers``."""
    if way == "export":
        return export_program(source)
    return export_with_transformers(source, "dynamo")


def export_with_transformers(source: ExportableModel, kind: str, **settings: Any) -> Any:
    """Exports with ``transformers.exporters``, which patches what tracers cannot follow.

    Args:
        source: The model.
        kind: ``dynamo`` for an ``ExportedProgram``, ``onnx`` for an ONNX model.
        settings: Settings of the exporter's config.

    Raises:
        ImportError: The installed transformers has no exporters.
    """
    module = import_module(f"transformers.exporters.exporter_{kind}")
    exporter = getattr(module, f"{kind.capitalize()}Exporter")()
    config = exporter.config_class(dynamic_shapes=_dynamic_shapes(source), **settings)
    wrapped = source.module
    wrapped.config = source.model.config
    with _without_precomputed_inputs(), symbolic_builtins(source.model):
        program, _ = exporter.export_program(wrapped, named_tensors(source), config)
    return program


def input_nodes(program: ExportedProgram) -> list[FxNode]:
    """Returns the placeholders of the model's inputs, without those of weights, in their order."""
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    specs = program.graph_signature.input_specs
    return [node for node, spec in zip(nodes, specs, strict=True) if spec.kind.name == "USER_INPUT"]


@contextmanager
def _without_precomputed_inputs() -> Iterator[None]:
    """Keeps transformers from adding inputs that it computes from others: a task only feeds its own.

    Waits for a switch in ``transformers.exporters`` (5.24 has none).
    """
    utils = import_module("transformers.exporters.utils")
    with mock.patch.object(utils, "precompute_export_inputs", return_value=None):
        yield


def _dynamic_shapes(source: ExportableModel) -> dict[str, dict[int, Any]]:
    """Returns the dynamic axes for ``torch.export``; ``Dim.AUTO`` leaves relations between them to PyTorch."""
    import torch

    auto = torch.export.Dim.AUTO
    return {argument_name(name): dict.fromkeys(source.axes[name], auto) for name in source.tensors}
