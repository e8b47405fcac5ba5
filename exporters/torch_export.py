"""What targets of PyTorch share: ``torch.export`` with the axes that vary, plain or as transformers does it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from equipoise.exporters.patches.symbolic_builtins import symbolic_builtins
from equipoise.exporters.target import ExportableModel, argument_name


def export_program(source: ExportableModel) -> Any:
    """The program of ``torch.export``; PyTorch infers how the axes hang together."""
    import torch

    example = tuple(source.tensors.values())
    shapes = tuple(_dynamic_shapes(source).values())
    with symbolic_builtins(source.model):
        return torch.export.export(source.module, example, dynamic_shapes=shapes, strict=False)


def export_with_strategy(source: ExportableModel, way: str) -> Any:
    """The program of ``torch.export`` in one of its two ways: ``export``, or ``transformers``."""
    return export_program(source) if way == "export" else export_with_transformers(source, "dynamo")


def input_nodes(program: Any) -> list[Any]:
    """The nodes of an ``ExportedProgram`` that stand for the model's inputs, in their order."""
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    specs = program.graph_signature.input_specs
    return [node for node, spec in zip(nodes, specs, strict=True) if spec.kind.name == "USER_INPUT"]


def export_with_transformers(source: ExportableModel, kind: str, **settings: Any) -> Any:
    """What the exporter of ``transformers.exporters`` makes of the module: it patches what tracers cannot follow.

    Args:
        source: The model.
        kind: ``dynamo`` or ``onnx``.
        settings: Of its config.

    Raises:
        ImportError: The installed transformers has no exporters.
    """
    module = import_module(f"transformers.exporters.exporter_{kind}")
    exporter = getattr(module, f"{kind.capitalize()}Exporter")()
    config = exporter.config_class(dynamic_shapes=_dynamic_shapes(source), **settings)
    wrapped = source.module
    wrapped.config = source.model.config
    tensors = {argument_name(name): value for name, value in source.tensors.items()}
    with _without_precomputed_inputs(), symbolic_builtins(source.model):
        program, _ = exporter.export_program(wrapped, tensors, config)
    return program


@contextmanager
def _without_precomputed_inputs() -> Iterator[None]:
    """Keeps transformers from adding inputs that it computes from others: a task feeds none but its own."""
    utils: Any = import_module("transformers.exporters.utils")
    kept = utils.precompute_export_inputs
    utils.precompute_export_inputs = lambda model, inputs: None
    try:
        yield
    finally:
        utils.precompute_export_inputs = kept


def _dynamic_shapes(source: ExportableModel) -> dict[str, dict[int, Any]]:
    """Which axes vary. Only where they vary is left open: how they hang together PyTorch finds out."""
    import torch

    auto = torch.export.Dim.AUTO
    return {argument_name(name): dict.fromkeys(source.axes[name], auto) for name in source.tensors}
