"""External data of ONNX graphs: graphs find their weights, and each weight is stored once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
onnx_ir = pytest.importorskip("onnx_ir")

from equipoise.exporters.onnx.external_data import (
    ExternalDataWriter,
    external_data_path,
    save_model,
    share_external_data,
)

A, B, C = (np.arange(size, dtype=np.float32).reshape(-1, 5) + size for size in (100, 200, 300))


def graph(*weights: np.ndarray) -> object:  # type: ignore[type-arg]
    """Returns a model that adds the sums of several weights."""
    helper = onnx.helper
    names = [f"w{index}" for index in range(len(weights))]
    nodes = [
        *(helper.make_node("ReduceSum", [name], [f"sum_{name}"], keepdims=0) for name in names),
        helper.make_node("Sum", [f"sum_{name}" for name in names], ["y"]),
    ]
    onnx_graph = helper.make_graph(
        nodes,
        "sums",
        [],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [])],
        [
            onnx.numpy_helper.from_array(value, name)
            for name, value in zip(names, weights, strict=True)
        ],
    )
    model = helper.make_model(
        onnx_graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    return onnx_ir.from_proto(model)


def result(path: Path) -> float:
    onnx.checker.check_model(str(path))
    return float(onnxruntime.InferenceSession(str(path)).run(None, {})[0])


def test_small_weights_stay_in_the_graph(tmp_path: Path) -> None:
    save_model(graph(A, B), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert result(tmp_path / "model.onnx") == A.sum() + B.sum()


def test_files_are_limited_and_equal_weights_are_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save_model(graph(A, B, A, C), path, limit=1300)
    sizes = {one.name: one.stat().st_size for one in tmp_path.iterdir() if one != path}
    # 400 and 800 bytes, the second from a boundary of 64 on; 1200 begin a new file.
    assert sizes == {"model.onnx_data": 448 + 800, "model.onnx_data_1": 1200}
    assert result(path) == 2 * A.sum() + B.sum() + C.sum()


def test_a_tensor_above_the_limit_has_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save_model(graph(C, A), path, limit=1000)
    assert external_data_path(path).stat().st_size == 1200
    assert (tmp_path / "model.onnx_data_1").stat().st_size == 400
    assert result(path) == C.sum() + A.sum()


def test_graphs_share(tmp_path: Path) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    save_model(graph(A, B), first, external=True)
    save_model(graph(B, C), second)
    share_external_data([first, second], tmp_path / "weights.data")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["first.onnx", "second.onnx", "weights.data"]
    assert (tmp_path / "weights.data").stat().st_size == 448 + 832 + 1200
    assert result(first) == A.sum() + B.sum()
    assert result(second) == B.sum() + C.sum()


def test_earlier_locations_are_returned(tmp_path: Path) -> None:
    save_model(graph(A), tmp_path / "model.onnx", external=True)
    model = onnx_ir.load(tmp_path / "model.onnx")
    weights = ExternalDataWriter(tmp_path / "other")
    assert weights.move(model.graph) == {tmp_path / "model.onnx_data"}
    weights.close()
    assert (tmp_path / "other").read_bytes() == A.tobytes()
