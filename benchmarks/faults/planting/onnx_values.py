"""Plants faults in the values between the operators of an ONNX graph: rounded to another dtype, clipped, scaled."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from faults.planting.onnx_graph import Builder, NoSiteError, OnnxProgram, Planted, module_of, pick
from faults.planting.onnx_operators import Random, float_nodes

CASTS = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
TF32_SPLIT = np.float32(8193)
"""2^13 + 1: a product with it splits a float32 into its upper 11 bits and the rest (Veltkamp)."""


def clip_values(program: OnnxProgram, random: Random, operator: str, bound: float) -> Planted:
    """Clips values that go beyond the bound."""
    node = pick(random, float_nodes(program, operator))
    low, high = np.float32(-bound), np.float32(bound)
    program.insert(
        node.output[0], lambda add, value: add("Clip", value, np.asarray(low), np.asarray(high))
    )
    return Planted(f"the output of {operator} {node.name} is clipped to {bound}", module_of(node))


def round_values(program: OnnxProgram, random: Random, operator: str, dtype: str) -> Planted:
    """Takes the output of one node through another dtype."""
    node = pick(random, float_nodes(program, operator))
    program.insert(node.output[0], lambda add, value: cast_through(add, value, dtype))
    return Planted(f"the output of {operator} {node.name} goes through {dtype}", module_of(node))


def round_products(program: OnnxProgram, random: Random, dtype: str) -> Planted:
    """Rounds the factors of every matrix product and convolution, as hardware of lower precision does."""
    nodes = program.of_type("MatMul", "Gemm", "Conv")
    if not nodes:
        raise NoSiteError
    for node in nodes:
        for index in (0, 1):
            builder = Builder(program, program.nodes.index(node))
            node.input[index] = cast_through(builder, node.input[index], dtype)
    return Planted(f"all {len(nodes)} matrix products round their factors to {dtype}")


def round_output(program: OnnxProgram, random: Random, dtype: str) -> Planted:
    """Takes an output of the program through another dtype."""
    name = pick(random, float_outputs(program))
    node = program.producer(name)
    program.insert(name, lambda add, value: cast_through(add, value, dtype))
    return Planted(f"the output {name} goes through {dtype}", module_of(node) if node else "")


def scale_output(program: OnnxProgram, random: Random, factor: float) -> Planted:
    """Multiplies an output of the program."""
    name = pick(random, float_outputs(program))
    node = program.producer(name)
    program.insert(name, lambda add, value: add("Mul", value, np.asarray(np.float32(factor))))
    return Planted(f"the output {name} is {factor} times", module_of(node) if node else "")


def cast_through(add: Builder, value: str, dtype: str) -> str:
    """Adds nodes that round a float32 value to another dtype and return it as float32."""
    if dtype == "tf32":
        scaled = add("Mul", value, np.asarray(TF32_SPLIT))
        return add("Sub", scaled, add("Sub", scaled, value))
    return add("Cast", add("Cast", value, to=CASTS[dtype]), to=TensorProto.FLOAT)


def float_outputs(program: OnnxProgram) -> list[str]:
    """Returns the outputs of the program that are no caches."""
    names = [one.name for one in program.graph.output if "." not in one.name]
    return [name for name in names if program.is_float(name) and program.producer(name)]
