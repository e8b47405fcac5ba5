"""Runs an ONNX graph with the values of its modules as further outputs."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from equipoise.convert.core.framework_types import OrtSession
from equipoise.validators.backends.base import (
    Array,
    GraphNode,
    ModuleRecord,
    module_records,
    module_spans,
)

SCOPES_KEY = "pkg.torch.onnx.name_scopes"
"""Key in a node's metadata: the modules that it came from, outermost first, and its own name."""


class ModuleRecorder:
    """A graph whose outputs are followed by the values of its modules.

    The nodes' metadata store which module they came from; a node without them belongs to none, and its values are
    inputs of the modules that use them. Each recorded value becomes an output of the graph, which prevents some fusions.

    Args:
        file: The graph.
        outputs: Names of its own outputs.
        open_session: Opens a session of a serialized graph whose external data are in a folder.
        records: The list that gets the records.
    """

    def __init__(
        self,
        file: str,
        outputs: list[str],
        open_session: Callable[[bytes, str], OrtSession],
        records: list[ModuleRecord],
    ) -> None:
        import onnx

        model = onnx.load(file, load_external_data=False)
        given = [value.name for value in model.graph.input]
        nodes = [*_input_nodes(given), *_graph_nodes(model.graph.node)]
        self.spans = module_spans([*nodes, GraphNode("", "", None, tuple(outputs))])
        self.outputs = outputs
        self.records = records
        existing = {*outputs, *given}
        wanted = {one for span in self.spans for one in (*span.values, *span.inputs)} - existing
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted))
        self.session = open_session(model.SerializeToString(), os.path.dirname(file))

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the graph's own outputs by name and records its modules."""
        names = [value.name for value in self.session.get_outputs()]
        values = {**inputs, **dict(zip(names, self.session.run(names, inputs), strict=True))}
        self.records += module_records(self.spans, values)
        return {name: values[name] for name in self.outputs}


def _input_nodes(names: Iterable[str]) -> list[GraphNode]:
    """Returns the inputs of a graph as operations outside of all modules."""
    return [GraphNode("", "", name, ()) for name in names]


def _graph_nodes(nodes: Iterable[Any]) -> list[GraphNode]:
    """Returns the operations of a graph; of several outputs each is a value of its own, the first one last."""
    return [
        GraphNode(path, "", value, tuple(node.input))
        for node in nodes
        for path in [_module_path(node)]
        for value in reversed(node.output)
        if value
    ]


def _module_path(node: Any) -> str:
    """Returns the module that a node came from; empty if the metadata do not store it."""
    for entry in node.metadata_props:
        if entry.key == SCOPES_KEY:
            *modules, _ = ast.literal_eval(entry.value)
            is_outside = any(name.startswith("_empty") for name in modules)
            return "" if is_outside else (modules or [""])[-1]
    return ""
