"""FX clean-ups before torch.onnx.export."""

from __future__ import annotations

from equipoise.convert.core.framework_types import ExportedProgram


def remove_noop_squeezes(program: ExportedProgram) -> None:
    """Replaces ``squeeze`` of an axis of dynamic size by ``clone`` in place.

    PyTorch leaves such an axis as it is, while ONNX requires its size to be 1. The node is not erased, since it may be
    an output, which the program's signature knows by name. Waits for a translation in torch.onnx (torch 2.13 has none).
    """
    import torch

    aten = torch.ops.aten
    for node in program.graph.nodes:
        if node.target not in (aten.squeeze.dim, aten.squeeze.dims):
            continue
        (source,) = node.all_input_nodes
        if source.meta["val"].ndim == node.meta["val"].ndim:
            node.target, node.args = aten.clone.default, (source,)
    program.graph_module.recompile()
