"""ONNX: initializers, constants of nodes, and external data, of a file or of all graphs of an encoder-decoder model."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from equipoise.convert.containers._shared.error_context import add_file_to_errors
from equipoise.convert.containers._shared.protobuf import MessageField, read_fields, read_varint
from equipoise.convert.core.arrays import Array, DType
from equipoise.convert.core.errors import CheckpointError, ContainerError
from equipoise.convert.core.json_values import is_plain_file_name
from equipoise.convert.core.tensor import DTYPES, Extent, TensorRef
from equipoise.validators.audit.content.weights import ProgramContent, ProgramWeight, Quantization
from equipoise.validators.audit.readers._files import map_file

Field = MessageField[memoryview]

_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8_e4m3fn",
    18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz",
}  # fmt: skip
"""``TensorProto.DataType`` -> dtype; packed and non-numeric types are missing."""
_VALUE_DTYPES = {4: "float32", 10: "float64"}
"""Numbers of the lists of values that are stored as bytes -> their dtype; the others are lists of varints."""
_VARINT_VALUES = (5, 7, 11)
_EXTERNAL = 1
_SCOPES_KEY = "pkg.torch.onnx.name_scopes"
"""Key in a node's metadata: the modules that it came from, outermost first, and its own name."""
_QUANTIZED_SUFFIX = "_quantized"
_WEIGHTED_OPS = frozenset(("MatMul", "Gemm", "Conv", "ConvTranspose", "MatMulInteger"))
_BIAS_OPS = frozenset(("Add", "BiasGelu"))
_MAX_DEPTH = 32


def read(path: Path) -> ProgramContent:
    """Reads an ONNX file, or every ONNX file of a folder."""
    files = sorted(path.glob("*.onnx")) if path.is_dir() else [path]
    return ProgramContent(tuple(weight for file in files for weight in _read_file(file)))


def _read_file(path: Path) -> list[ProgramWeight]:
    with add_file_to_errors(path):
        data = map_file(path)
        model = _Model(path)
        for part in read_fields(data):
            if part.number == 7:
                model.read_graph(part.message())
            elif part.number == 25:
                for inner in read_fields(part.message()):
                    if inner.number == 7:
                        model.read_node(inner.message(), 0)
    return model.weights()


@dataclass
class _Model:
    """What is found in a file so far.

    Attributes:
        path: The file.
        tensors: Initializers and constants by name, in order.
        modules: Names of tensors -> path of the module whose node reads them.
        products: Outputs of nodes that multiply by a tensor -> its name.
        biases: Names of tensors -> name of the tensor that is added to their product.
    """

    path: Path
    tensors: dict[str, TensorRef] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    products: dict[str, str] = field(default_factory=dict)
    biases: dict[str, str] = field(default_factory=dict)

    def read_graph(self, graph: memoryview, depth: int = 0) -> None:
        if depth > _MAX_DEPTH:
            raise ContainerError("graphs are nested too deeply", expected=f"{_MAX_DEPTH} levels")
        for part in read_fields(graph):
            if part.number == 5:
                self._add(_read_tensor(part.message(), self.path))
            elif part.number == 15:
                raise ContainerError("sparse initializers are not supported")
            elif part.number == 1:
                self.read_node(part.message(), depth)

    def read_node(self, node: memoryview, depth: int) -> None:
        texts: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: []}
        attributes: list[memoryview] = []
        module = ""
        for part in read_fields(node):
            if part.number in texts:
                texts[part.number].append(part.text())
            elif part.number == 5:
                attributes.append(part.message())
            elif part.number == 9:
                module = _scopes(part.message()) or module
        inputs, outputs, names, kinds = texts.values()
        for attribute in attributes:
            self._read_attribute(attribute, outputs[0] if outputs else "", depth)
        module = module or _module_of_node("".join(names))
        self._connect("".join(kinds), inputs, outputs, module)

    def _connect(self, op: str, inputs: list[str], outputs: list[str], module: str) -> None:
        """Records which module multiplies by a tensor, and what is added to the product."""
        if op in _WEIGHTED_OPS and len(inputs) > 1:
            if module:
                self.modules.setdefault(inputs[1], module)
            self.products.update(dict.fromkeys(outputs[:1], inputs[1]))
            if op != "MatMulInteger" and len(inputs) > 2:
                self.biases.setdefault(inputs[1], inputs[2])
        elif op in _BIAS_OPS and len(inputs) == 2:
            for product, bias in (inputs, inputs[::-1]):
                if product in self.products:
                    self.biases.setdefault(self.products[product], bias)

    def _read_attribute(self, attribute: memoryview, owner: str, depth: int) -> None:
        for part in read_fields(attribute):
            if part.number in (5, 10):
                ref = _read_tensor(part.message(), self.path)
                self._add(None if ref is None else replace(ref, name=ref.name or owner))
            elif part.number in (6, 11):
                self.read_graph(part.message(), depth + 1)

    def _add(self, ref: TensorRef | None) -> None:
        if ref is not None:
            name = ref.name
            while name in self.tensors:  # graphs of branches may use a name again
                name += "'"
            self.tensors[name] = ref if name == ref.name else replace(ref, name=name)

    def weights(self) -> list[ProgramWeight]:
        parameters = {
            f"{base}{suffix}"
            for name in self.tensors
            if (base := name.removesuffix(_QUANTIZED_SUFFIX)) != name
            for suffix in ("_scale", "_zero_point")
        }
        found = []
        for name, ref in self.tensors.items():
            if name not in parameters:
                base = name.removesuffix(_QUANTIZED_SUFFIX)
                module = self.modules.get(name) or self.modules.get(base, "")
                quantization = self._quantization(base) if base != name else None
                found.append(ProgramWeight(ref, module, self.biases.get(name, ""), quantization))
        return found

    def _quantization(self, base: str) -> Quantization | None:
        """Returns scale and zero point under the names that ONNX Runtime's quantizer gives them."""
        scale, zero = (self.tensors.get(f"{base}{one}") for one in ("_scale", "_zero_point"))
        if scale is None:
            return Quantization()
        return Quantization(scale.read(), None if zero is None else zero.read(), axis=-1)


def _scopes(entry: memoryview) -> str:
    """Returns the path of the innermost module in the metadata of a node; empty for other metadata."""
    parts = {part.number: part for part in read_fields(entry)}
    if 1 not in parts or 2 not in parts or parts[1].text() != _SCOPES_KEY:
        return ""
    try:
        scopes = ast.literal_eval(parts[2].text())
    except (ValueError, SyntaxError):
        return ""
    return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else ""


def _module_of_node(name: str) -> str:
    """Returns the path of the module in the name that PyTorch's tracer gives a node.

    >>> _module_of_node("/model/bert/encoder/layer.0/output/dense/MatMul"), _module_of_node("node_MatMul_7")
    ('model.bert.encoder.layer.0.output.dense', '')
    """
    return ".".join(name.split("/")[1:-1])


def _read_tensor(proto: memoryview, path: Path) -> TensorRef | None:
    """Returns a reference to a ``TensorProto``; None if it is not numeric."""
    shape: list[int] = []
    number, name, place = 0, "", 0
    raw: memoryview | None = None
    values: Array | None = None
    external: dict[str, str] = {}
    for part in read_fields(proto):
        if part.number == 1:
            shape += _integers(part)
        elif part.number == 2:
            number = part.count()
        elif part.number in _VALUE_DTYPES and part.raw is not None:
            values = np.frombuffer(part.raw, _VALUE_DTYPES[part.number])
        elif part.number in _VARINT_VALUES:
            numbers = np.array(_integers(part), np.uint64).view(np.int64)
            values = numbers if values is None else np.concatenate([values, numbers])
        elif part.number == 8:
            name = part.text()
        elif part.number == 9:
            raw = part.message()
        elif part.number == 13:
            key, value = (entry.text() for entry in read_fields(part.message()))
            external[key] = value
        elif part.number == 14:
            place = part.count()
    dtype = DTYPES.get(_DTYPES.get(number, ""))
    if dtype is None:
        return None
    sizes = tuple(shape)
    if place == _EXTERNAL:
        return TensorRef(
            name, dtype, sizes, path, extent=_extent(external, dtype, sizes, path, name)
        )
    content = raw if raw is not None else values
    return TensorRef(name, dtype, sizes, path, load=lambda: _inline(content, dtype, sizes, name))


def _integers(part: Field) -> list[int]:
    """Returns the values of a repeated integer field, packed or not."""
    if part.integer is not None:
        return [part.integer]
    data, position, found = part.message(), 0, []
    while position < len(data):
        value, position = read_varint(data, position)
        found.append(value)
    return found


def _inline(
    content: memoryview | Array | None, dtype: DType, shape: tuple[int, ...], name: str
) -> Array:
    if content is None:
        content = memoryview(b"")
    if isinstance(content, memoryview):
        found = np.frombuffer(content, dtype) if len(content) % dtype.itemsize == 0 else None
    elif dtype.itemsize == 2 and dtype.kind != "i" and dtype.kind != "u":
        found = content.astype(np.uint16).view(dtype)  # the bits of float16 and bfloat16
    else:
        found = content.astype(dtype)
    if found is None or found.size != int(np.prod(shape, dtype=np.int64)):
        raise ContainerError("a tensor does not have the values that its shape needs", tensor=name)
    return found.reshape(shape)


def _extent(
    entries: Mapping[str, str], dtype: DType, shape: tuple[int, ...], path: Path, name: str
) -> Extent:
    """Returns the byte range of external data, which lies in the folder of the model."""
    location = entries.get("location", "")
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    offset, length = entries.get("offset", "0"), entries.get("length", str(nbytes))
    file = path.parent / location
    if not is_plain_file_name(location) or file.is_symlink():
        raise ContainerError(
            "external data lies outside of the model's folder", tensor=name, found=location
        )
    if not file.is_file():
        raise CheckpointError("the file of external data is missing", file=file, tensor=name)
    if not (offset.isdecimal() and length.isdecimal()) or int(length) != nbytes:
        raise ContainerError(
            "the external data of a tensor does not have its size",
            tensor=name,
            expected=f"{nbytes} bytes",
            found=f"{length} bytes at {offset}",
        )
    return Extent(file, int(offset), nbytes)
