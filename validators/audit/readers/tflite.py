"""TensorFlow Lite: the buffers of all tensors, with their scales where they are quantized."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from equipoise.convert.containers._shared.error_context import add_file_to_errors
from equipoise.convert.core.arrays import Array, DType
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import DTYPES, TensorRef
from equipoise.validators.audit.content.weights import (
    ProgramContent,
    ProgramWeight,
    Quantization,
    WeightRole,
)
from equipoise.validators.audit.readers._files import map_file
from equipoise.validators.audit.readers._flatbuffer import Table, root_table

_IDENTIFIER = b"TFL3"
_DTYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8",
    10: "float64", 12: "uint64", 15: "uint32", 16: "uint16", 18: "bfloat16",
}  # fmt: skip
"""``TensorType`` of the schema -> dtype; packed and non-numeric types are missing."""
_LITERAL_PREFIX = "arith.constant"
"""What TensorFlow's converter calls constants that no variable held."""
_SUBGRAPHS, _BUFFERS = 2, 4
_TENSORS, _OPERATORS = 0, 3
_CODE, _INPUTS = 0, 1
_OPERATOR_CODES = 1
_SHORT_CODE, _LONG_CODE = 0, 3
_PRODUCTS = (3, 4, 9)
"""Numbers of the operators that add a bias: convolution, depthwise convolution, fully connected."""
_SHAPE, _TYPE, _BUFFER, _TENSOR_NAME, _QUANTIZATION = range(5)
_DATA, _OFFSET, _SIZE = range(3)
_SCALE, _ZERO_POINT, _AXIS = 2, 3, 6


def read(path: Path) -> ProgramContent:
    """Reads a ``.tflite`` file."""
    with add_file_to_errors(path):
        data = map_file(path)
        if bytes(data[4:8]) != _IDENTIFIER:
            raise ContainerError("not a TensorFlow Lite model", found=bytes(data[:8]))
        return ProgramContent(tuple(_weights(root_table(data), path)))


def _weights(model: Table, path: Path) -> Iterator[ProgramWeight]:
    buffers = list(model.tables(_BUFFERS))
    codes = [
        max(one.integer(_SHORT_CODE, "b"), one.integer(_LONG_CODE, "i"))
        for one in model.tables(_OPERATOR_CODES)
    ]
    products = {index for index, code in enumerate(codes) if code in _PRODUCTS}
    for graph in model.tables(_SUBGRAPHS):
        tensors = list(graph.tables(_TENSORS))
        biases = dict(_biases(graph, len(tensors), products))
        for position, tensor in enumerate(tensors):
            index = tensor.integer(_BUFFER)
            if index >= len(buffers):
                raise ContainerError("a tensor has no buffer", tensor=tensor.text(_TENSOR_NAME))
            raw = _content(buffers[index], model.data)
            if raw is not None:
                weight = _weight(tensor, raw, index, path)
                bias = biases.get(position)
                if weight is not None:
                    yield (
                        weight
                        if bias is None
                        else replace(weight, bias=tensors[bias].text(_TENSOR_NAME))
                    )


def _biases(graph: Table, count: int, products: Collection[int]) -> Iterator[tuple[int, int]]:
    """Yields the tensors of kernels, each with that of the bias that its operator adds."""
    for operator in graph.tables(_OPERATORS):
        inputs = operator.array(_INPUTS, np.dtype("int32")).tolist()
        is_product = operator.integer(_CODE) in products
        if is_product and len(inputs) == 3 and all(0 <= one < count for one in inputs):
            yield inputs[1], inputs[2]


def _content(buffer: Table, data: memoryview) -> memoryview | None:
    """Returns the bytes of a buffer; large models keep them behind the flatbuffer."""
    offset, size = buffer.integer(_OFFSET, "Q"), buffer.integer(_SIZE, "Q")
    if offset > 1:
        if offset + size > len(data):
            raise ContainerError("a buffer lies outside of the file")
        return data[offset : offset + size]
    found = buffer.bytes(_DATA)
    return found if found is not None and len(found) else None


def _weight(tensor: Table, raw: memoryview, index: int, path: Path) -> ProgramWeight | None:
    dtype = DTYPES.get(_DTYPES.get(tensor.integer(_TYPE, "b"), ""))
    shape = tuple(int(one) for one in tensor.array(_SHAPE, np.dtype("int32")))
    if dtype is None:
        return None
    name = tensor.text(_TENSOR_NAME)
    if int(np.prod(shape, dtype=np.int64)) * dtype.itemsize != len(raw):
        raise ContainerError("a tensor does not have the size of its buffer", tensor=name)
    ref = TensorRef(
        name,
        dtype,
        shape,
        path,
        load=lambda: _array(raw, dtype, shape),
        identity=(str(path), index),
    )
    return ProgramWeight(
        ref,
        quantization=_quantization(tensor.table(_QUANTIZATION)),
        role=WeightRole.LITERAL if name.startswith(_LITERAL_PREFIX) else WeightRole.CONSTANT,
    )


def _array(raw: memoryview, dtype: DType, shape: tuple[int, ...]) -> Array:
    return np.frombuffer(raw, dtype).reshape(shape)


def _quantization(parameters: Table | None) -> Quantization | None:
    if parameters is None:
        return None
    scale = parameters.array(_SCALE, np.dtype("float32"))
    if not scale.size:
        return None
    zero = parameters.array(_ZERO_POINT, np.dtype("int64"))
    return Quantization(scale, zero if zero.size else None, parameters.integer(_AXIS, "i"))
