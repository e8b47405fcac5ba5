"""Runs an ONNX graph with the values of its modules as further outputs."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.convert.core.framework_types import OrtSession
from equipoise.validators.backends.base import (
    Array,
    GraphNode,
    ModuleRecord,
    ModuleSpan,
    module_records,
    module_spans,
)

SCOPES_KEY = "pkg.torch.onnx.name_scopes"
"""Key in a node's metadata: the modules that it came from, outermost first, and its own name."""


class ModuleRecorder:
    """A graph whose outputs are followed by the values of its modules.

    The nodes' metadata store which module they came from; a node without them belongs to none, and its values are
    inputs of the modules that use them. Each recorded value becomes an output of the graph, which prevents some fusions.
    Where an input chooses between two graphs, as ``use_cache_branch`` of a merged decoder does, the one that a pass takes is
    recorded.

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
        self.file = file
        self.outputs = outputs
        self.records = records
        self._open_session = open_session
        self._opened: dict[frozenset[tuple[str, bool]], _RecordedGraph] = {}

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the graph's own outputs by name and records its modules."""
        flags = {
            name: bool(value.item())
            for name, value in inputs.items()
            if value.dtype == bool and value.size == 1
        }
        key = frozenset(flags.items())
        if key not in self._opened:
            self._opened[key] = self._open(flags)
        graph = self._opened[key]
        names = [value.name for value in graph.session.get_outputs()]
        values = {**inputs, **dict(zip(names, graph.session.run(names, inputs), strict=True))}
        self.records += module_records(graph.spans, values)
        return {name: values[name] for name in self.outputs}

    def _open(self, flags: Mapping[str, bool]) -> _RecordedGraph:
        """Opens the graph that is run with these values of inputs."""
        import onnx

        model = onnx.load(self.file, load_external_data=False)
        inline_branches(model.graph, flags)
        given = [value.name for value in model.graph.input]
        nodes = [*_input_nodes(given), *_graph_nodes(model.graph.node)]
        spans = module_spans([*nodes, GraphNode("", "", None, tuple(self.outputs))])
        existing = {*self.outputs, *given}
        wanted = {one for span in spans for one in (*span.values, *span.inputs)} - existing
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted))
        session = self._open_session(model.SerializeToString(), os.path.dirname(self.file))
        return _RecordedGraph(spans, session)


@dataclass(frozen=True)
class _RecordedGraph:
    """A graph that returns the values of its modules, and which values are whose."""

    spans: list[ModuleSpan]
    session: OrtSession


def inline_branches(graph: Any, flags: Mapping[str, bool]) -> None:
    """Replaces each ``If`` that an input decides by the nodes of the branch that is taken.

    Args:
        graph: An ``onnx.GraphProto``.
        flags: The inputs that are one Boolean, with their values.
    """
    import onnx

    taken = onnx.GraphProto()
    for node in graph.node:
        if node.op_type != "If" or node.input[0] not in flags:
            taken.node.append(node)
            continue
        side = "then_branch" if flags[node.input[0]] else "else_branch"
        (branch,) = (attribute.g for attribute in node.attribute if attribute.name == side)
        graph.initializer.extend(branch.initializer)
        taken.node.extend(branch.node)
        taken.node.extend(
            onnx.helper.make_node("Identity", [inner.name], [outer])
            for inner, outer in zip(branch.output, node.output, strict=True)
            if outer not in ("", inner.name)
        )
    del graph.node[:]
    graph.node.extend(taken.node)


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
