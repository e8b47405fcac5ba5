"""Plants wrong operators, attributes, constants, layouts and precisions in an ONNX graph.

Every function takes a program, a random generator and the parameters of its kind, changes the program, and returns what it
did; it raises :class:`NoSiteError` where the program has no place for it.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from onnx import NodeProto

from faults.planting.onnx_graph import (
    Builder,
    NoSiteError,
    OnnxProgram,
    Planted,
    attribute,
    in_modules,
    module_of,
    pick,
    set_attribute,
)

Random = np.random.Generator

MIN_BIAS = 1e-6
"""Biases below this count as none."""
MASK_BELOW = -1e30
"""Constants below this are masks."""


def replace_operator(program: OnnxProgram, random: Random, old: str, new: str) -> Planted:
    """Puts another operator in place of one."""
    node = pick(random, float_nodes(program, old))
    node.op_type = new
    kept = (
        ("kernel_shape", "pads", "strides", "axis") if new in ("AveragePool", "LogSoftmax") else ()
    )
    for one in [one for one in node.attribute if one.name not in kept]:
        node.attribute.remove(one)
    return Planted(f"{old} {node.name} is {new}", module_of(node))


def set_operator_attribute(
    program: OnnxProgram, random: Random, operator: str, name: str, value: Any
) -> Planted:
    """Sets an attribute to a value that it does not have."""
    sites = float_nodes(program, operator)
    node = pick(random, [one for one in sites if not has_value(one, name, value)])
    set_attribute(node, name, value.encode() if isinstance(value, str) else value)
    return Planted(f"{name} of {operator} {node.name} is {value}", module_of(node))


def has_value(node: NodeProto, name: str, value: Any) -> bool:
    """Returns whether an attribute has a value, up to the roundings of float32."""
    old = attribute(node, name)
    if isinstance(value, float) and old is not None:
        return bool(np.isclose(old, value))
    return bool(old == (value.encode() if isinstance(value, str) else value))


def shift_pads(program: OnnxProgram, random: Random) -> Planted:
    """Pads one row less before, and one more behind: the output keeps its size."""
    sites = [one for one in program.of_type("Conv") if min(attribute(one, "pads") or [0]) > 0]
    node = pick(random, sites)
    pads = list(attribute(node, "pads"))
    half = len(pads) // 2
    shifted = [one - 1 for one in pads[:half]] + [one + 1 for one in pads[half:]]
    set_attribute(node, "pads", shifted)
    return Planted(f"pads of Conv {node.name} are {shifted} for {pads}", module_of(node))


def scale_epsilon(program: OnnxProgram, random: Random, factor: float) -> Planted:
    """Multiplies the epsilon that a norm adds as a constant."""
    sites = [
        (node, index)
        for node, index, value in scalar_operands(program, "Add")
        if 0 < value < 1e-3 and not is_shared_module(node)
    ]
    node, index = pick(random, sites)
    value = float(program.constant(node.input[index]).reshape(()))
    old = program.constant(node.input[index])
    program.private_constant(node, index, np.asarray(old * factor, old.dtype))
    return Planted(f"epsilon of {node.name} is {value * factor:g} for {value:g}", module_of(node))


def scale_constant(program: OnnxProgram, random: Random, factor: float) -> Planted:
    """Multiplies a scalar factor or divisor, such as the scale of attention."""
    sites = [
        (node, index)
        for node, index, value in scalar_operands(program, "Mul", "Div")
        if value not in (0, 1)
    ]
    node, index = pick(random, sites)
    old = program.constant(node.input[index])
    program.private_constant(node, index, np.asarray(old * factor, old.dtype))
    return Planted(f"the constant of {node.op_type} {node.name} is {factor} times", module_of(node))


def round_constant(program: OnnxProgram, random: Random) -> Planted:
    """Rounds a scalar constant to bfloat16, as a folder of constants in another precision does."""
    sites = []
    for node, index, value in scalar_operands(program, "Mul", "Div", "Pow"):
        rounded = float(np.asarray(value).astype(ml_dtypes.bfloat16))
        if abs(rounded - value) > 1e-4 * abs(value):
            sites.append((node, index, value, rounded))
    node, index, value, rounded = pick(random, sites)
    shape = program.constant(node.input[index]).shape
    program.private_constant(node, index, np.full(shape, rounded, np.float32))
    return Planted(f"the constant of {node.name} is {rounded:g} for {value:g}", module_of(node))


def weaken_mask(program: OnnxProgram, random: Random, value: float) -> Planted:
    """Sets the constant that masks attention to a value that is too small."""
    if "attention_mask" not in program.input_names():
        raise NoSiteError  # nothing is masked but what lies ahead, or nothing at all
    sites = [
        (node, index)
        for node in program.of_type("Where", "Mul")
        for index, name in enumerate(node.input)
        if (old := program.constant(name)) is not None
        and old.dtype.kind == "f"
        and old.size == 1
        and float(old.reshape(())) < MASK_BELOW
    ]
    node, index = pick(random, sites)
    shape = program.constant(node.input[index]).shape
    program.private_constant(node, index, np.full(shape, value, np.float32))
    return Planted(f"{node.name} masks with {value}", first_attention(program, node.output[0]))


def shift_index(program: OnnxProgram, random: Random) -> Planted:
    """Takes the next element where a constant says which is taken, such as the first token for pooling."""
    sites = []
    for node in program.of_type("Gather"):
        index = program.constant(node.input[1])
        sizes = program.shape(node.input[0])
        if index is not None and index.size == 1 and program.is_float(node.input[0]) and sizes:
            sites.append(node)
    node = pick(random, [one for one in sites if module_of(one)])
    old = program.constant(node.input[1])
    step = 1 if int(old.reshape(())) >= 0 else -1
    program.private_constant(node, 1, np.asarray(old + step, np.int64))
    return Planted(f"Gather {node.name} takes the element beside", module_of(node))


def lose_operand(program: OnnxProgram, random: Random) -> Planted:
    """Loses a residual connection."""
    sites = [
        node
        for node in in_modules(program.of_type("Add"))
        if all(one not in program.initializers for one in node.input)
        and all(program.shape(one) == program.shape(node.output[0]) for one in node.input)
    ]
    node = pick(random, sites)
    module = module_of(node)
    what = f"the sum {node.name} is its operand {node.input[0]} alone"
    program.bypass(node, 0)
    return Planted(what, module)


def lose_bias(program: OnnxProgram, random: Random) -> Planted:
    """Loses the addition of a bias."""
    node, index = pick(random, bias_sites(program))
    module, what = module_of(node), f"{node.name} does not add {node.input[index]}"
    program.bypass(node, 1 - index)
    return Planted(what, module)


def add_bias_twice(program: OnnxProgram, random: Random) -> Planted:
    """Adds a bias once more, as a fusion that keeps the node that it fuses does."""
    node, index = pick(random, bias_sites(program))
    name = node.input[index]
    program.insert(node.output[0], lambda add, value: add("Add", value, name))
    return Planted(f"{node.name} adds {name} twice", module_of(node))


def bias_sites(program: OnnxProgram) -> list[tuple[NodeProto, int]]:
    """Returns the sums with a bias that is not zero, and the operand that is the bias."""
    sites = []
    for node in in_modules(program.of_type("Add")):
        for index, name in enumerate(node.input):
            value = program.constant(name)
            if value is not None and value.ndim == 1 and np.abs(value).max() > MIN_BIAS:
                sites.append((node, index))
    return sites


def lose_node(program: OnnxProgram, random: Random, operator: str) -> Planted:
    """Loses a node; what read its output reads its first input."""
    sites = float_nodes(program, operator)
    if operator == "Mul":
        sites = [node for node, _, value in scalar_operands(program, "Mul") if value != 1]
    node = pick(random, sites)
    module, what = module_of(node), f"{operator} {node.name} is not there"
    program.bypass(node, 1 if node.input[0] in program.initializers else 0)
    return Planted(what, module)


def swap_operands(program: OnnxProgram, random: Random, operator: str) -> Planted:
    """Swaps the operands of an operator that does not commute, or the parts of a concatenation."""
    sites = [
        node
        for node in in_modules(program.of_type(operator))
        if len(node.input) >= 2
        and program.is_float(node.output[0])
        and program.shape(node.input[0]) == program.shape(node.input[1]) is not None
        and node.input[0] != node.input[1]
    ]
    node = pick(random, sites)
    node.input[0], node.input[1] = node.input[1], node.input[0]
    return Planted(f"the first two operands of {operator} {node.name} are swapped", module_of(node))


def swap_equal_constants(program: OnnxProgram, random: Random) -> Planted:
    """Reads one weight in place of another of its shape, as an elimination of duplicates that compares shapes does."""
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for node in in_modules(program.nodes):
        for name in node.input:
            value = program.constant(name)
            if value is not None and value.dtype == np.float32 and value.size > 8:
                names = by_shape.setdefault(value.shape, [])
                names += [name] if name not in names else []
    some = [names for names in by_shape.values() if len(names) > 1]
    names = pick(random, some)
    kept, lost = (names[i] for i in sorted(random.choice(len(names), 2, replace=False)))
    if np.array_equal(program.constant(kept), program.constant(lost)):
        raise NoSiteError
    node = next(one for one in program.nodes if lost in one.input and module_of(one))
    for reader in program.users(lost):
        for index, name in enumerate(reader.input):
            if name == lost:
                reader.input[index] = kept
    return Planted(f"{node.name} reads {kept} for {lost}", module_of(node))


def transpose_scores(program: OnnxProgram, random: Random) -> Planted:
    """Transposes the scores of attention, which are square."""
    node = pick(random, attention_scores(program))
    sizes = program.shape(node.output[0])
    if not sizes or sizes[-1] != sizes[-2]:
        raise NoSiteError
    axes = [*range(len(sizes) - 2), len(sizes) - 1, len(sizes) - 2]
    program.insert(node.output[0], lambda add, value: add("Transpose", value, perm=axes))
    return Planted(f"the scores of {node.name} are transposed", module_of(node))


def permute_features(program: OnnxProgram, random: Random) -> Planted:
    """Orders the features of a linear layer as heads that lie interleaved."""
    sites = [
        node
        for node in in_modules(program.of_type("Add", "Gemm"))
        if any(one in program.initializers for one in node.input)
        and isinstance((program.shape(node.output[0]) or ["?"])[-1], int)
        and int(program.shape(node.output[0])[-1]) % 4 == 0
        and any(
            reader.op_type in ("Reshape", "Transpose") for reader in program.users(node.output[0])
        )
    ]
    node = pick(random, sites)
    size = int(program.shape(node.output[0])[-1])
    order = np.arange(size).reshape(2, size // 2).T.ravel()
    program.insert(node.output[0], lambda add, value: add("Gather", value, order, axis=-1))
    return Planted(f"the features of {node.name} are interleaved", module_of(node))


def first_row_for_all(program: OnnxProgram, random: Random) -> Planted:
    """Broadcasts the mask of the first row over the batch."""
    sites = []
    for softmax in program.of_type("Softmax"):
        add = program.producer(softmax.input[0])
        if add is not None and add.op_type == "Add":
            mask = next((one for one in add.input if is_mask(program, one)), None)
            sites += [(add, mask)] if mask else []
    node, mask = pick(random, sites)
    index = list(node.input).index(mask)
    builder = Builder(program, program.nodes.index(node))
    node.input[index] = builder("Slice", mask, np.array([0]), np.array([1]), np.array([0]))
    return Planted(f"{node.name} adds the mask of the first row to all rows", module_of(node))


def one_value_for_all(program: OnnxProgram, random: Random) -> Planted:
    """Broadcasts the first element of a bias over all features."""
    sites = [
        (node, index)
        for node, index in bias_sites(program)
        if np.ptp(program.constant(node.input[index])) > MIN_BIAS
    ]
    node, index = pick(random, sites)
    name = node.input[index]
    builder = Builder(program, program.nodes.index(node))
    node.input[index] = builder("Slice", name, np.array([0]), np.array([1]))
    return Planted(f"{node.name} adds the first element of {name} to all", module_of(node))


def float_nodes(program: OnnxProgram, operator: str) -> list[NodeProto]:
    """Returns the nodes of a type that came from a named module and compute float32."""
    nodes = in_modules(program.of_type(operator))
    return [one for one in nodes if program.is_float(one.output[0])]


def scalar_operands(program: OnnxProgram, *types: str) -> list[tuple[NodeProto, int, float]]:
    """Returns nodes with a constant operand of one float, the operand's index and value."""
    found = []
    for node in in_modules(program.of_type(*types)):
        for index, name in enumerate(node.input):
            value = program.constant(name)
            if value is not None and value.dtype == np.float32 and value.size == 1:
                found.append((node, index, float(value.reshape(()))))
    return found


def is_shared_module(node: NodeProto) -> bool:
    """Whether a node came from the model itself and not from a module within it."""
    return "." not in module_of(node)


def is_mask(program: OnnxProgram, name: str) -> bool:
    """Whether a value is a mask that has a row for each row of the batch."""
    sizes = program.shape(name)
    producer = program.producer(name)
    known = producer is not None and producer.op_type in ("Where", "Mul", "Slice", "Expand", "Add")
    return known and sizes is not None and len(sizes) == 4 and sizes[1] == 1 and sizes[0] != 1


def attention_scores(program: OnnxProgram) -> list[NodeProto]:
    """Returns the matrix products of queries and keys: those before a softmax."""
    found = []
    for softmax in program.of_type("Softmax"):
        node = program.producer(softmax.input[0])
        while node is not None and node.op_type in ("Add", "Mul", "Div"):
            node = program.producer(node.input[0])
        if node is not None and node.op_type == "MatMul":
            found.append(node)
    return found


def first_attention(program: OnnxProgram, source: str) -> str:
    """Returns the module of the first softmax that a value reaches, where a wrong mask shows first."""
    reached = {source}
    for node in program.nodes:
        if reached.intersection(node.input):
            if node.op_type == "Softmax":
                return module_of(node)
            reached.update(node.output)
    return ""
