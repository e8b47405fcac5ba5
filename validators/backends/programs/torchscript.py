"""Runs TorchScript: a traced or scripted module in a file."""

from __future__ import annotations

import re

from equipoise.convert.core.framework_types import ScriptGraph, ScriptModule, TorchTensor
from equipoise.validators.backends import _torch
from equipoise.validators.backends.base import (
    Array,
    CacheState,
    Facts,
    GraphNode,
    Kwargs,
    ModuleRecord,
    Options,
    Outputs,
    module_records,
    module_spans,
)

_HIERARCHY_LEVEL = re.compile(r"\.?([^.()]+)\(([^()]*)\)")


def load(folder: str, class_name: str, options: Options) -> Session:
    """Loads the module of a file; the file determines the precision."""
    import torch

    _torch.pin_numerics(options)
    module = torch.jit.load(folder, map_location=options.get("device") or "cpu")
    return Session(module.eval(), options)


class Session(_torch.TorchSession):
    """A session of a ``ScriptModule``."""

    def __init__(self, module: ScriptModule, options: Options) -> None:
        import torch

        self.module = module
        self.device = torch.device(options.get("device") or "cpu")
        schema = module._c._get_method("forward").schema
        self.arguments = [argument.name for argument in schema.arguments[1:]]
        self.accepts = frozenset(self.arguments)
        self.output_names = list(options.get("outputs") or [])

    def about(self) -> Facts:
        """Describes device, precision, threads and switches as PyTorch reports them."""
        parameter = next(self.module.parameters(), None)
        precision = str(parameter.dtype).removeprefix("torch.") if parameter is not None else ""
        return {
            **_torch.describe_runtime(self.device),
            "precision": precision,
            "implementation": "torch.jit",
        }

    def run(self, inputs: dict[str, Array], kwargs: Kwargs) -> Outputs:
        """Returns the outputs by name: the names of the returned dict, or those of the option ``outputs``."""
        result = self.module(**self._tensors(inputs), **_select_accepted(kwargs, self.accepts))
        return _torch.outputs_by_name(result, self.output_names)

    def capture(
        self,
        inputs: dict[str, Array],
        kwargs: Kwargs,
        state: CacheState = None,
        order: list[int] | None = None,
        cached: bool = False,
    ) -> tuple[Outputs, list[ModuleRecord]]:
        """Records the last value of every module; the graph stores which module a node came from."""
        graph = self.module.inlined_graph.copy()
        spans = module_spans(self._nodes(graph))
        wanted = {name for span in spans for name in (*span.values, *span.inputs)}
        values = [value for value in _tensor_values(graph) if value.debugName() in wanted]
        results = self._evaluate(graph, values, self._tensors(inputs))
        values_by_name = {
            value.debugName(): name for value, name in zip(values, results, strict=True)
        }
        return self.run(inputs, kwargs), module_records(spans, values_by_name)

    def _nodes(self, graph: ScriptGraph) -> list[GraphNode]:
        """Returns the operations of the graph. In a loaded file the paths of nodes lack the names of module lists; they are added."""
        modules = dict(self.module.named_modules())
        full_paths = {".".join(_path_without_lists(modules, path)): path for path in modules}
        given = [value.debugName() for value in graph.inputs() if _is_tensor(value)]
        tensors = {value.debugName() for value in _tensor_values(graph)}
        nodes = [GraphNode("", "", name, ()) for name in given]
        for node in graph.nodes():
            path, kind = _module_path(node)
            if node.kind() == "prim::TupleConstruct":  # what a module returns
                path = ""
            inputs = tuple(one.debugName() for one in node.inputs() if one.debugName() in tensors)
            is_tensor = node.outputsSize() == 1 and node.output().debugName() in tensors
            value = node.output().debugName() if is_tensor else None
            nodes.append(GraphNode(full_paths.get(path, path), kind, value, inputs))
        outputs = tuple(value.debugName() for value in graph.outputs())
        return [*nodes, GraphNode("", "", None, outputs)]

    def _evaluate(
        self, graph: ScriptGraph, values: list[ScriptGraph], tensors: dict[str, TorchTensor]
    ) -> Outputs:
        """Runs the graph and returns these of its values."""
        import torch

        for _ in list(graph.outputs()):
            graph.eraseOutput(0)
        construct = graph.create("prim::TupleConstruct", values)
        construct.output().setType(torch._C.TupleType([value.type() for value in values]))
        graph.appendNode(construct)
        graph.registerOutput(construct.output())
        function = torch._C._create_function_from_graph("forward", graph)
        return function(self.module._c, *(tensors[name] for name in self.arguments))

    def names(self) -> dict[str, list[int]]:
        """Returns the shape of every weight by name."""
        return {name: list(value.shape) for name, value in self.module.state_dict().items()}

    def _tensors(self, inputs: dict[str, Array]) -> dict[str, TorchTensor]:
        import torch

        parameter = next(self.module.parameters(), None)
        precision = parameter.dtype if parameter is not None else torch.float32
        return _torch.to_tensors(inputs, self.device, precision)


def _select_accepted(kwargs: Kwargs, accepted: frozenset[str]) -> dict[str, Kwargs]:
    return {name: value for name, value in kwargs.items() if name in accepted}


def _module_path(node: ScriptGraph) -> tuple[str, str]:
    """Returns path and class of the module that a node came from; the graph stores ``model(Bert).encoder(BertEncoder)``."""
    levels = _HIERARCHY_LEVEL.findall(node.getModuleHierarchy())
    return ".".join(name for name, _ in levels), levels[-1][1] if levels else ""


def _tensor_values(graph: ScriptGraph) -> list[ScriptGraph]:
    """Returns the inputs of a graph and the values of its nodes that are tensors."""
    values = [node.output() for node in graph.nodes() if node.outputsSize() == 1]
    return [value for value in (*graph.inputs(), *values) if _is_tensor(value)]


def _is_tensor(value: ScriptGraph) -> bool:
    return str(value.type()).startswith("Tensor")


def _path_without_lists(modules: dict[str, ScriptModule], path: str) -> list[str]:
    parts = path.split(".") if path else []
    return [
        part
        for depth, part in enumerate(parts)
        if modules[".".join(parts[: depth + 1])].original_name != "ModuleList"
    ]
