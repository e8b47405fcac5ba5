"""Changes of a graph for ONNX Runtime keep its results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
onnx_ir = pytest.importorskip("onnx_ir")

from equipoise.exporters.onnx.runtime_passes import prevent_pad_fusion


def padded_pool(path: Path, opset: int) -> None:
    """Returns a model that pads an image with zeros and takes the maximum over 3x3 windows."""
    helper = onnx.helper
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["padded"]),
        helper.make_node("MaxPool", ["padded"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "pool",
        [helper.make_tensor_value_info("x", kind, ["batch", 1, 4, 4])],
        [helper.make_tensor_value_info("y", kind, ["batch", 1, 2, 2])],
        [helper.make_tensor("pads", onnx.TensorProto.INT64, [8], [0, 0, 1, 1, 0, 0, 1, 1])],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))


def test_padding_before_a_pool_is_kept(tmp_path: Path) -> None:
    """All values are negative: the zero padding is the maximum wherever a window reaches it."""
    path = tmp_path / "model.onnx"
    padded_pool(path, 18)
    model = onnx_ir.load(str(path))
    assert prevent_pad_fusion(model) == [
        "padding before MaxPool names its axes: ONNX Runtime fuses it wrongly"
    ]
    onnx_ir.save(model, str(path))
    onnx.checker.check_model(str(path), full_check=True)
    image = -np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": image})
    np.testing.assert_array_equal(found, [[[[0, 0], [0, -6]]]])


def test_graphs_without_such_padding_are_unchanged(tmp_path: Path) -> None:
    """An older ``Pad`` without an axes input is left alone, and a second call changes nothing."""
    path = tmp_path / "model.onnx"
    padded_pool(path, 17)
    assert prevent_pad_fusion(onnx_ir.load(str(path))) == []
    padded_pool(path, 18)
    model = onnx_ir.load(str(path))
    prevent_pad_fusion(model)
    assert prevent_pad_fusion(model) == []
