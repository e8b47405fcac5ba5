"""What PyTorch's translation to ONNX takes amiss, taken out of a program of ``torch.export`` first."""

from __future__ import annotations

from typing import Any


def remove_noop_squeezes(program: Any) -> None:
    """Takes out the ``squeeze`` of an axis that is open: PyTorch leaves it as it is, ONNX insists that its size is 1."""
    import torch

    aten = torch.ops.aten
    for node in program.graph.nodes:
        if node.target not in (aten.squeeze.dim, aten.squeeze.dims):
            continue
        (before,) = node.all_input_nodes
        if before.meta["val"].ndim == node.meta["val"].ndim:
            # Not erased: it may be an output, which the program's signature knows by name.
            node.target, node.args = aten.clone.default, (before,)
    program.graph_module.recompile()
