"""Plants faults in ONNX graphs: nodes without names or metadata between two others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Graph = Any
"""An ``onnx.GraphProto``."""
LIMITS = (-0.5, 0.5)


def plant(program: Path, output: Path, change: Callable[[Graph], None]) -> Path:
    """Writes a changed copy of a program."""
    import onnx

    model = onnx.load(program)
    change(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, output)
    return output


def output_of(graph: Graph, scope: str) -> str:
    """Returns the last value that is computed in a module."""
    wanted = f"'model.{scope}'"
    values = [
        node.output[0]
        for node in graph.node
        if any(wanted in entry.value for entry in node.metadata_props)
    ]
    return str(values[-1])


def insert_after(graph: Graph, value: str, *nodes: tuple[str, dict[str, Any], list[Any]]) -> None:
    """Puts operations behind a value: its users get the result of the last one.

    Args:
        graph: The graph.
        value: Name of the value, or of an input.
        nodes: Operator, attributes, and further inputs of each.
    """
    from onnx import helper, numpy_helper

    users = [node for node in graph.node if value in node.input]
    index = next((i + 1 for i, node in enumerate(graph.node) if value in node.output), 0)
    name = value
    for number, (operator, attributes, more) in enumerate(nodes):
        constants = []
        for position, constant in enumerate(more):
            constants.append(f"{value}_{number}_{position}")
            array = np.asarray(constant, np.float32)
            graph.initializer.append(numpy_helper.from_array(array, constants[-1]))
        result = f"{value}_after_{number}"
        node = helper.make_node(operator, [name, *constants], [result], **attributes)
        graph.node.insert(index + number, node)
        name = result
    for node in users:
        for position, given in enumerate(node.input):
            if given == value:
                node.input[position] = name


def clip_after(scope: str) -> Callable[[Graph], None]:
    """Returns a change that clips what a module returns."""
    return lambda graph: insert_after(graph, output_of(graph, scope), ("Clip", {}, list(LIMITS)))


def cast_after(scope: str) -> Callable[[Graph], None]:
    """Returns a change that rounds what a module returns to float16."""
    from onnx import TensorProto

    casts = [("Cast", {"to": TensorProto.FLOAT16}, []), ("Cast", {"to": TensorProto.FLOAT}, [])]
    return lambda graph: insert_after(graph, output_of(graph, scope), *casts)  # type: ignore[arg-type]


def without_past(layer: int, kind: str) -> Callable[[Graph], None]:
    """Returns a change that sets the past keys or values of a layer to zero."""
    return lambda graph: insert_after(graph, f"past_key_values.{layer}.{kind}", ("Mul", {}, [0.0]))


def clip_logits(graph: Graph) -> None:
    """Clips the output of the whole model, after all modules."""
    from onnx import helper, numpy_helper

    (node,) = (node for node in graph.node if "logits" in node.output)
    node.output[0] = "unclipped"
    for name, limit in zip(("low", "high"), LIMITS, strict=True):
        graph.initializer.append(numpy_helper.from_array(np.float32(limit), name))
    graph.node.append(helper.make_node("Clip", ["unclipped", "low", "high"], ["logits"]))


def low_products(graph: Graph) -> None:
    """Rounds factors and results of all matrix products to float16, as a converter to mixed precision does."""
    from onnx import TensorProto, helper

    nodes = []
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm"):
            nodes.append(node)
            continue
        result = node.output[0]
        for position, given in enumerate(node.input):
            node.input[position] = f"{result}_factor_{position}"
            nodes.append(
                helper.make_node("Cast", [given], [node.input[position]], to=TensorProto.FLOAT16)
            )
        node.output[0] = f"{result}_low"
        nodes += [node, helper.make_node("Cast", [node.output[0]], [result], to=TensorProto.FLOAT)]
    del graph.node[:]
    graph.node.extend(nodes)
