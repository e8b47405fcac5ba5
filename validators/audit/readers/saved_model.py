"""SavedModel: the variables, and the constants of the graph; those of an XLA module within it are not read as tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from equipoise.convert.containers import tensor_bundle
from equipoise.convert.containers._shared.protobuf import read_fields
from equipoise.convert.core.arrays import Array, DType
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import DTYPES, TensorRef
from equipoise.validators.audit.content.weights import ProgramContent, ProgramWeight, parameters
from equipoise.validators.audit.readers._files import map_file

Message = memoryview

_GRAPH_PATHS = ((2, 2, 1), (2, 2, 2, 1, 3))
"""Field numbers from ``SavedModel`` to its nodes: those of the graph, and those of the functions in its library."""
_FLOAT_VALUES = {5: "float32", 6: "float64"}
"""Numbers of a ``TensorProto``'s lists of values -> their dtype; long constants and all others of note are stored as bytes."""


def read(path: Path) -> ProgramContent:
    """Reads a folder with ``saved_model.pb``."""
    index = path / "variables" / "variables.index"
    weights = list(parameters(tensor_bundle.read(index).tensors.values()))
    graph = path / "saved_model.pb"
    for node in _nodes(map_file(graph)):
        constant = _constant(node, graph)
        if constant is not None:
            weights.append(ProgramWeight(constant))
    return ProgramContent(tuple(weights), opaque=(graph,))


def _nodes(model: Message) -> Iterator[Message]:
    for numbers in _GRAPH_PATHS:
        messages = [model]
        for number in numbers:
            messages = [part for one in messages for part in _parts(one, number)]
        yield from messages


def _constant(node: Message, file: Path) -> TensorRef | None:
    """Returns the tensor of a node that is a constant number."""
    name = op = ""
    tensor: Message | None = None
    for field in read_fields(node):
        if field.number == 1:
            name = field.text()
        elif field.number == 2:
            op = field.text()
        elif field.number == 5:
            tensor = _tensor_attribute(field.message()) or tensor
    if op != "Const" or tensor is None:
        return None
    return _tensor(name, tensor, file)


def _tensor_attribute(entry: Message) -> Message | None:
    """Returns the tensor of an attribute named ``value``."""
    parts = {field.number: field for field in read_fields(entry)}
    if 1 not in parts or parts[1].text() != "value" or 2 not in parts:
        return None
    for field in read_fields(parts[2].message()):
        if field.number == 8:
            return field.message()
    return None


def _tensor(name: str, proto: Message, file: Path) -> TensorRef | None:
    """Returns a tensor; None if it is not numeric, or a short list of integers."""
    number = 0
    shape: tuple[int, ...] = ()
    raw: Message | None = None
    for field in read_fields(proto):
        if field.number == 1:
            number = field.count()
        elif field.number == 2:
            shape = tuple(map(_size, _parts(field.message(), 2)))
        elif field.number == 4 or (field.number in _FLOAT_VALUES and field.raw is not None):
            raw = field.message()
    dtype = DTYPES.get(tensor_bundle.DTYPE_NAMES.get(number, ""))
    if dtype is None or raw is None or len(raw) % dtype.itemsize:
        return None
    content = raw
    return TensorRef(name, dtype, shape, file, load=lambda: _filled(content, dtype, shape))


def _parts(message: Message, number: int) -> list[Message]:
    return [field.message() for field in read_fields(message) if field.number == number]


def _size(dimension: Message) -> int:
    return next((field.count() for field in read_fields(dimension) if field.number == 1), 0)


def _filled(raw: Message, dtype: DType, shape: tuple[int, ...]) -> Array:
    """Returns the values of a tensor; the last one is repeated where there are fewer than elements."""
    found = np.frombuffer(raw, dtype)
    count = math.prod(shape)
    if found.size > count or not found.size:
        raise ContainerError("a constant does not have the values that its shape needs")
    return np.concatenate([found, np.full(count - found.size, found[-1])]).reshape(shape)
