"""Runs programs of torch.export (``.pt2``)."""

from __future__ import annotations

from equipoise.convert.core.framework_types import ExportedProgram, FxNode, TorchDtype, TorchTensor
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
from equipoise.validators.runtime.worker import to_numpy


def load(folder: str, class_name: str, options: Options) -> Session:
    """Loads the program of a file; the file determines the precision."""
    import torch

    _torch.pin_numerics(options)
    # Importing transformers registers its output classes with PyTorch's pytree.
    import transformers  # noqa: F401

    return Session(torch.export.load(folder), options)


class Session(_torch.TorchSession):
    """A session of an ``ExportedProgram``."""

    def __init__(self, program: ExportedProgram, options: Options) -> None:
        import torch
        from torch.export.passes import move_to_device_pass

        self.device = torch.device(options.get("device") or "cpu")
        if self.device.type != "cpu":
            program = move_to_device_pass(program, str(self.device))
        self.program = program
        self.module = program.module()
        placeholders = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        self.arguments = [str(node.target) for node in placeholders]
        self.accepts = frozenset(self.arguments)
        self.output_names = list(options.get("outputs") or [])

    def about(self) -> Facts:
        """Describes device, precision, threads and switches as PyTorch reports them."""
        return {
            **_torch.describe_runtime(self.device),
            "precision": str(self._precision()).removeprefix("torch."),
            "implementation": "torch.export",
        }

    def run(self, inputs: dict[str, Array], kwargs: Kwargs) -> Outputs:
        """Returns the outputs by name: the names of the returned dict, or those of the option ``outputs``."""
        args, keywords = self._arguments(inputs)
        result = self.module(*args, **keywords)
        return _torch.outputs_by_name(result, self.output_names)

    def capture(
        self,
        inputs: dict[str, Array],
        kwargs: Kwargs,
        state: CacheState = None,
        order: list[int] | None = None,
        cached: bool = False,
    ) -> tuple[Outputs, list[ModuleRecord]]:
        """Records the last value of every module; the nodes' metadata store which module they came from."""
        from torch.fx import Interpreter

        spans = module_spans(self._nodes())
        wanted = {one for span in spans for one in (*span.values, *span.inputs)}
        values: dict[FxNode, Array | None] = {}

        class RecordingInterpreter(Interpreter):  # type: ignore[misc]
            def run_node(self, node: FxNode) -> Outputs:
                result = super().run_node(node)
                if node in wanted:
                    values[node] = to_numpy(result)
                return result

        tensors = self._tensors(inputs)
        RecordingInterpreter(self.module).run(*(tensors[name] for name in self.arguments))
        return self.run(inputs, kwargs), module_records(spans, values)

    def _nodes(self) -> list[GraphNode]:
        """Returns the operations of the graph; its inputs and outputs belong to no module."""
        outside = ("placeholder", "output")
        return [
            GraphNode(
                *(("", "") if node.op in outside else _module_path(node)),
                node if node.op == "placeholder" or _is_tensor(node) else None,
                tuple(node.all_input_nodes),
            )
            for node in self.module.graph.nodes
            if node.op in ("call_function", *outside)
        ]

    def names(self) -> dict[str, list[int]]:
        """Returns the shape of every weight by name."""
        return {name: list(value.shape) for name, value in self.program.state_dict.items()}

    def _arguments(self, inputs: dict[str, Array]) -> tuple[tuple[TorchTensor, ...], Kwargs]:
        """Returns positional and keyword arguments, as the program was exported."""
        from torch.utils._pytree import tree_unflatten

        tensors = self._tensors(inputs)
        flat = [tensors[name] for name in self.arguments]
        args, keywords = tree_unflatten(flat, self.program.call_spec.in_spec)
        return args, keywords

    def _precision(self) -> TorchDtype:
        import torch

        floating = [
            value for value in self.program.state_dict.values() if value.is_floating_point()
        ]
        return floating[0].dtype if floating else torch.float32

    def _tensors(self, inputs: dict[str, Array]) -> dict[str, TorchTensor]:
        return _torch.to_tensors(inputs, self.device, self._precision())


def _is_tensor(node: FxNode) -> bool:
    return node.op == "call_function" and hasattr(node.meta.get("val"), "shape")


def _module_path(node: FxNode) -> tuple[str, str]:
    """Returns path and class of the module that a node came from."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", ""
    path, kind = stack[-1]
    name = kind if isinstance(kind, str) else kind.__name__
    return str(path), name.rsplit(".", 1)[-1]
