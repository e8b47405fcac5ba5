"""The reader of ONNX finds what onnx itself reads, wherever a tensor is stored, and leaves the model's folder nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
helper = pytest.importorskip("onnx.helper")
numpy_helper = pytest.importorskip("onnx.numpy_helper")

from equipoise.convert.core.errors import CheckpointError, ContainerError
from equipoise.validators.audit.content.weights import ProgramWeight
from equipoise.validators.audit.readers import read_program

WEIGHT = np.random.default_rng(0).normal(0, 1, (8, 5)).astype(np.float32)


def write(folder: Path, nodes: list[object], initializers: list[object], **options: object) -> Path:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 8])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "graph", [x], [y], initializers)
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph), str(path), **options)
    return path


def weights(path: Path) -> dict[str, ProgramWeight]:
    return {one.name: one for one in read_program("onnx", path).weights}


@pytest.mark.parametrize(
    "dtype",
    ["float32", "float64", "float16", "int64", "int32", "int8", "uint8", "bool", "bfloat16"],
)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_dtypes(dtype: str, raw: bool, tmp_path: Path) -> None:
    import ml_dtypes

    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    wanted = (WEIGHT * 10).astype(kind)
    number = helper.np_dtype_to_tensor_dtype(kind)
    values = wanted.tobytes() if raw else wanted.reshape(-1).tolist()
    proto = helper.make_tensor("w", number, wanted.shape, values, raw=raw)
    path = write(tmp_path, [helper.make_node("Identity", ["x"], ["y"])], [proto])
    found = weights(path)["w"].ref.read()
    assert found.dtype == kind
    assert found.tobytes() == numpy_helper.to_array(proto).astype(kind).tobytes()


def test_constants_branches_and_modules(tmp_path: Path) -> None:
    constant = numpy_helper.from_array(WEIGHT, "")
    inner = numpy_helper.from_array(WEIGHT + 1, "inner")
    out = helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None)
    branch = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["z"])], "b", [], [out], [inner]
    )
    product = helper.make_node("MatMul", ["x", "c"], ["p"], name="/model/encoder/dense/MatMul")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=constant),
        product,
        helper.make_node("Add", ["p", "bias"], ["y"]),
        helper.make_node("If", ["condition"], ["other"], then_branch=branch, else_branch=branch),
    ]
    bias = numpy_helper.from_array(WEIGHT[0], "bias")
    found = weights(write(tmp_path, nodes, [bias]))
    assert np.array_equal(found["c"].ref.read(), WEIGHT)
    assert np.array_equal(found["inner"].ref.read(), WEIGHT + 1)
    assert (found["c"].module, found["c"].bias) == ("model.encoder.dense", "bias")


def test_external_data_stays_in_the_folder(tmp_path: Path) -> None:
    proto = numpy_helper.from_array(WEIGHT, "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = write(
        tmp_path, [node], [proto],
        save_as_external_data=True, location="model.onnx_data", size_threshold=0,
    )  # fmt: skip
    assert np.array_equal(weights(path)["w"].ref.read(), WEIGHT)
    data = tmp_path / "model.onnx_data"
    outside = tmp_path.parent / f"{tmp_path.name}.secret"
    outside.write_bytes(data.read_bytes())
    data.unlink()
    with pytest.raises(CheckpointError, match="external data is missing"):
        weights(path)
    os.symlink(outside, data)
    with pytest.raises(ContainerError, match="outside of the model's folder"):
        weights(path)
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = f"../{outside.name}"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ContainerError, match="outside of the model's folder"):
        weights(path)


def test_scales_of_quantized_weights(tmp_path: Path) -> None:
    initializers = [
        numpy_helper.from_array(np.array([[3, -4]], np.int8), "w_quantized"),
        numpy_helper.from_array(np.array(0.5, np.float32), "w_scale"),
        numpy_helper.from_array(np.array(1, np.int8), "w_zero_point"),
    ]
    path = write(tmp_path, [helper.make_node("Identity", ["x"], ["y"])], initializers)
    (weight,) = weights(path).values()
    assert weight.quantization is not None
    assert weight.quantization.dequantize(weight.ref.read()).tolist() == [[1.0, -2.5]]


@pytest.mark.parametrize("content", [b"", b"\x3a", b"\x3a\xff\xff\xff\xff\x0f", b"no protobuf"])
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises((ContainerError, CheckpointError)):
        weights(path)
