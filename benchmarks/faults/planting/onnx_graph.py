"""An ONNX program that can be edited: nodes with the modules that they came from, constants, insertions."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

SCOPES_KEY = "pkg.torch.onnx.name_scopes"
"""Key in a node's metadata: the modules that it came from, outermost first, and its own name."""

RANDOM_LENGTH = 8
MIN_CHANGE = 2e-6
"""Smallest change of an output, relative to its scale, that makes an edit a fault."""

Array = NDArray[Any]


class NoSiteError(Exception):
    """A program or checkpoint has no place for a fault of this kind."""


@dataclass(frozen=True)
class Planted:
    """What was done.

    Attributes:
        what: What was done, and where.
        module: The first module that computes otherwise; empty where it is not one module.
        weight: The weight that was changed, if one was.
    """

    what: str
    module: str = ""
    weight: str = ""


class OnnxProgram:
    """One ONNX file in memory."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.model = onnx.load(file)
        self.graph = self.model.graph
        self.initializers = {one.name: one for one in self.graph.initializer}
        self._names = 0

    @property
    def nodes(self) -> Sequence[NodeProto]:
        """The nodes in order."""
        return list(self.graph.node)

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return next(one.version for one in self.model.opset_import if one.domain == "")

    def of_type(self, *types: str) -> list[NodeProto]:
        """Returns the nodes of some operator types."""
        return [node for node in self.nodes if node.op_type in types]

    def constant(self, name: str) -> Array | None:
        """Returns the value of an initializer, or None."""
        tensor = self.initializers.get(name)
        return None if tensor is None else np.array(numpy_helper.to_array(tensor))

    def set_constant(self, name: str, value: Array) -> None:
        """Replaces the value of an initializer."""
        self.initializers[name].CopyFrom(numpy_helper.from_array(value, name))

    def add_constant(self, value: Array) -> str:
        """Adds an initializer and returns its name."""
        name = self.new_name("constant")
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        self.initializers[name] = self.graph.initializer[-1]
        return name

    def private_constant(self, node: NodeProto, index: int, value: Array) -> None:
        """Gives a node a constant of its own in place of one that others may share."""
        node.input[index] = self.add_constant(value)

    def new_name(self, stem: str) -> str:
        """Returns a name that nothing has."""
        self._names += 1
        return f"{stem}_{self._names}_planted"

    def users(self, value: str) -> list[NodeProto]:
        """Returns the nodes that read a value."""
        return [node for node in self.nodes if value in node.input]

    def producer(self, value: str) -> NodeProto | None:
        """Returns the node that computes a value; None for inputs and constants."""
        return next((node for node in self.nodes if value in node.output), None)

    def input_names(self) -> list[str]:
        """Returns the names of the inputs."""
        return [one.name for one in self.graph.input]

    def shape(self, value: str) -> list[int | str] | None:
        """Returns the sizes of an input, an output, or a value whose shape the exporter kept."""
        for one in (*self.graph.input, *self.graph.value_info, *self.graph.output):
            if one.name == value:
                return [size.dim_param or size.dim_value for size in one.type.tensor_type.shape.dim]
        tensor = self.initializers.get(value)
        return None if tensor is None else list(tensor.dims)

    def is_float(self, value: str) -> bool:
        """Whether an input, an output or a constant is of float32."""
        for one in (*self.graph.input, *self.graph.value_info, *self.graph.output):
            if one.name == value:
                return bool(one.type.tensor_type.elem_type == TensorProto.FLOAT)
        tensor = self.initializers.get(value)
        return tensor is not None and tensor.data_type == TensorProto.FLOAT

    def insert(self, value: str, build: Callable[[Builder, str], str]) -> None:
        """Changes a value for all that read it: ``build`` adds nodes and returns the name of the changed value."""
        producer = self.producer(value)
        if producer is None:
            builder = Builder(self, 0)
            readers = self.users(value)
            changed = build(builder, value)
            for node in readers:
                rename(node.input, value, changed)
            return
        raw = self.new_name(value)
        rename(producer.output, value, raw)
        builder = Builder(self, self.nodes.index(producer) + 1)
        changed = build(builder, raw)
        rename(self.producer(changed).output, changed, value)
        for node in builder.added:
            rename(node.input, changed, value)

    def bypass(self, node: NodeProto, kept: int) -> None:
        """Takes a node away; what read its output reads one of its inputs instead."""
        self.graph.node.remove(node)
        if node.output[0] in [one.name for one in self.graph.output]:
            identity = helper.make_node("Identity", [node.input[kept]], [node.output[0]])
            self.graph.node.append(identity)
            return
        for reader in self.users(node.output[0]):
            rename(reader.input, node.output[0], node.input[kept])

    def save(self) -> None:
        """Writes the program in its place, weights inside."""
        onnx.checker.check_model(self.model)
        onnx.save_model(self.model, str(self.file))


@dataclass
class Builder:
    """Adds nodes at one position of a program."""

    program: OnnxProgram
    position: int

    def __post_init__(self) -> None:
        self.added: list[NodeProto] = []

    def __call__(self, op_type: str, *inputs: str | Array, **attributes: Any) -> str:
        """Adds a node without a name of a module, and returns its output."""
        names = [one if isinstance(one, str) else self.program.add_constant(one) for one in inputs]
        output = self.program.new_name(op_type.lower())
        node = helper.make_node(op_type, names, [output], **attributes)
        self.program.graph.node.insert(self.position, node)
        self.added.append(self.program.graph.node[self.position])
        self.position += 1
        return output


def random_inputs(program: OnnxProgram, random: np.random.Generator) -> dict[str, Array]:
    """Returns random inputs of a program: two rows, eight positions, masks of ones."""
    values: dict[str, Array] = {}
    for one in program.graph.input:
        kind = one.type.tensor_type
        sizes = [
            size.dim_value or (2 if size.dim_param == "batch" else RANDOM_LENGTH)
            for size in kind.shape.dim
        ]
        if kind.elem_type == TensorProto.FLOAT:
            values[one.name] = random.standard_normal(sizes).astype(np.float32)
        elif "mask" in one.name:
            values[one.name] = np.ones(sizes, helper.tensor_dtype_to_np_dtype(kind.elem_type))
        else:
            values[one.name] = random.integers(0, 2, sizes)
    return values


def run_program(program: OnnxProgram, inputs: dict[str, Array]) -> list[Array] | None:
    """Returns the outputs of a program without optimization; None if it does not run."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    content = program.model.SerializeToString()
    try:
        return list(onnxruntime.InferenceSession(content, options).run(None, inputs))
    except (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.RuntimeException):
        return None


def changes_outputs(base: OnnxProgram, planted: OnnxProgram) -> bool:
    """Returns whether a planted program computes otherwise on random inputs; False if it alone does not run.

    Changes below :data:`MIN_CHANGE` count as none: float32 cannot tell them from rounding.
    """
    inputs = random_inputs(base, np.random.default_rng(0))
    before, after = run_program(base, inputs), run_program(planted, inputs)
    if before is None:
        return True
    return after is not None and any(
        one.shape != two.shape
        or not np.allclose(two, one, 0, MIN_CHANGE * scale(one), equal_nan=True)
        for one, two in zip(before, after, strict=True)
    )


def scale(values: Array) -> float:
    """Returns the largest absolute value that is finite; 0 if there is none."""
    finite = np.abs(values[np.isfinite(values)].astype(np.float64))
    return float(finite.max(initial=0))


def rename(names: Any, old: str, new: str) -> None:
    """Replaces a name in the inputs or outputs of a node."""
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def module_of(node: NodeProto) -> str:
    """Returns the path of the PyTorch module that a node came from; empty if it is not known."""
    for entry in node.metadata_props:
        if entry.key == SCOPES_KEY:
            *modules, _ = ast.literal_eval(entry.value)
            if not modules or modules[0].startswith("_empty"):
                return ""
            return str(modules[-1]).partition(".")[2]
    return ""


def attribute(node: NodeProto, name: str) -> Any:
    """Returns the value of an attribute, or None."""
    found = next((one for one in node.attribute if one.name == name), None)
    return None if found is None else helper.get_attribute_value(found)


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    """Sets an attribute."""
    for one in [one for one in node.attribute if one.name == name]:
        node.attribute.remove(one)
    node.attribute.append(helper.make_attribute(name, value))


def pick(random: np.random.Generator, sites: Sequence[Any]) -> Any:
    """Returns one of the sites.

    Raises:
        NoSiteError: There is none.
    """
    if not sites:
        raise NoSiteError
    return sites[int(random.integers(len(sites)))]


def in_modules(nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
    """Yields the nodes that came from a module with a name."""
    return (node for node in nodes if module_of(node))
