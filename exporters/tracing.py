"""What targets of PyTorch share: ``torch.export`` with the axes that vary, plain or as transformers does it."""

from __future__ import annotations

from typing import Any

from equipoise.exporters.base import Source


def exported(source: Source) -> Any:
    """The program of ``torch.export``; PyTorch infers how the axes hang together."""
    import torch

    example = tuple(source.tensors.values())
    shapes = tuple(_shapes(source).values())
    return torch.export.export(source.module, example, dynamic_shapes=shapes, strict=False)


def by_transformers(source: Source, kind: str, **settings: Any) -> Any:
    """What the exporter of ``transformers.exporters`` makes of the module: it patches what tracers cannot follow.

    Args:
        source: The model.
        kind: ``dynamo`` or ``onnx``.
        settings: Of its config.

    Raises:
        ImportError: The installed transformers has no exporters.
    """
    from importlib import import_module

    module = import_module(f"transformers.exporters.exporter_{kind}")
    exporter = getattr(module, f"{kind.capitalize()}Exporter")()
    config = exporter.config_class(dynamic_shapes=_shapes(source), **settings)
    wrapped = source.module
    wrapped.config = source.model.config
    program, _ = exporter.export_program(wrapped, dict(source.tensors), config)
    return program


def _shapes(source: Source) -> dict[str, dict[int, Any]]:
    """Which axes vary. Only where they vary is left open: how they hang together PyTorch finds out."""
    import torch

    auto = torch.export.Dim.AUTO
    return {name: dict.fromkeys(source.axes[name], auto) for name in source.tensors}
