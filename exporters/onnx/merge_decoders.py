"""Merges two decoders into one ONNX file: the branches of an ``If``, chosen by ``use_cache_branch``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.convert.core.framework_types import OnnxGraph, OnnxValue
from equipoise.exporters.cache_names import USE_CACHE_BRANCH, past_name

BRANCH_NAMES = {"then_branch": "with_past", "else_branch": "first"}
"""Attributes of ``If`` -> the decoder in that branch."""


def merge_decoders(first: Path, with_past: Path, path: Path) -> None:
    """Writes one graph of two whose weights are in the same files, and removes the two.

    The merged graph has the inputs and outputs of both. The branch with past passes the cached keys and values of the
    encoder through, so that both branches have all outputs. Sizes of outputs have the names of the branch with past, which
    are right for both: the past of the first tokens is empty.

    Args:
        first: The decoder for the first tokens.
        with_past: The decoder that continues.
        path: The file to write, in the same folder.
    """
    import onnx_ir

    models = {"else_branch": onnx_ir.load(str(first)), "then_branch": onnx_ir.load(str(with_past))}
    outer = _OuterGraph()
    for side, model in models.items():
        outer.take_inputs(model.graph)
        outer.take_weights(model.graph, BRANCH_NAMES[side])
    begin, continued = models["else_branch"].graph, models["then_branch"].graph
    shapes = {value.name: value for value in (*begin.outputs, *continued.outputs)}
    names = [str(value.name) for value in begin.outputs]
    branches = {
        side: _branch_graph(model.graph, BRANCH_NAMES[side], names, outer)
        for side, model in models.items()
    }
    switch = onnx_ir.Value(
        name=USE_CACHE_BRANCH,
        type=onnx_ir.TensorType(onnx_ir.DataType.BOOL),
        shape=onnx_ir.Shape([1]),
    )
    choice = onnx_ir.Node(
        "",
        "If",
        [switch],
        [onnx_ir.AttrGraph(side, graph) for side, graph in branches.items()],
        outputs=[
            onnx_ir.Value(name=name, type=shapes[name].type, shape=shapes[name].shape)
            for name in names
        ],
    )
    graph = onnx_ir.Graph(
        [*outer.inputs.values(), switch],
        list(choice.outputs),
        nodes=[choice],
        initializers=list(outer.weights.values()),
        opset_imports=dict(begin.opset_imports),
        name="decoder_merged",
    )
    merged = onnx_ir.Model(graph, ir_version=models["else_branch"].ir_version)
    onnx_ir.save(merged, str(path))
    for file in (first, with_past):
        file.unlink()


class _OuterGraph:
    """What both branches see: inputs by name, weights by content."""

    def __init__(self) -> None:
        self.inputs: dict[str, OnnxValue] = {}
        self.weights: dict[Any, OnnxValue] = {}

    def take_inputs(self, graph: OnnxGraph) -> None:
        """Moves the inputs of a branch here."""
        import onnx_ir

        for value in list(graph.inputs):
            shared = self.inputs.setdefault(
                value.name, onnx_ir.Value(name=value.name, type=value.type, shape=value.shape)
            )
            value.replace_all_uses_with(shared, replace_graph_outputs=True)

    def take_weights(self, graph: OnnxGraph, branch: str) -> None:
        """Moves the weights of a branch here; equal ones are kept once."""
        import onnx_ir

        for value in list(graph.initializers.values()):
            key = _weight_key(value.const_value)
            if key not in self.weights:
                self.weights[key] = onnx_ir.Value(
                    name=f"{branch}/{value.name}",
                    type=value.type or onnx_ir.TensorType(value.const_value.dtype),
                    shape=value.const_value.shape,
                    const_value=value.const_value,
                )
            value.replace_all_uses_with(self.weights[key], replace_graph_outputs=True)


def _weight_key(tensor: Any) -> tuple[Any, ...]:
    """Returns what identifies the content of a weight: its location in a file, or its bytes."""
    import onnx_ir

    shape = tuple(int(size) for size in tensor.shape)
    if isinstance(tensor, onnx_ir.ExternalTensor):
        return str(tensor.location), tensor.offset, tensor.dtype, shape
    return tensor.tobytes(), tensor.dtype, shape


def _branch_graph(graph: OnnxGraph, branch: str, names: list[str], outer: _OuterGraph) -> OnnxGraph:
    """Returns the nodes of a graph as a branch with these outputs; inner names get the branch as a prefix."""
    import onnx_ir

    by_name = {value.name: value for value in graph.outputs}
    nodes = list(graph)
    graph.remove(nodes)
    graph.outputs.clear()
    outputs = []
    for name in names:
        value = by_name.get(name) or outer.inputs[past_name(name)]
        if value.producer() is None:  # an output of a branch must be produced inside of it
            node = onnx_ir.Node("", "Identity", [value], outputs=[onnx_ir.Value(name=name)])
            node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
            nodes.append(node)
            value = node.outputs[0]
        outputs.append(value)
    for index, node in enumerate(nodes):
        node.name = f"{branch}/{index}_{node.op_type}"
        for value in node.outputs:
            if value.name:
                value.name = f"{branch}/{value.name}"
    return onnx_ir.Graph([], outputs, nodes=nodes, opset_imports={}, name=branch)
