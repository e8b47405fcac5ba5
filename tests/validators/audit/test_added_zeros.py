"""Zeros that a converter adds to a product are no tensor that was lost, unless the bias of that layer is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audited import Arrays, references

onnx = pytest.importorskip("onnx")
helper = pytest.importorskip("onnx.helper")
numpy_helper = pytest.importorskip("onnx.numpy_helper")

from equipoise.validators.audit.audit import Auditor
from equipoise.validators.audit.content.report import AuditReport

DRAWS = np.random.default_rng(0)
SOURCE: Arrays = {
    "model.first.weight": DRAWS.normal(0, 1, (24, 8)).astype(np.float32),
    "model.first.bias": DRAWS.normal(0, 1, 24).astype(np.float32),
    "model.second.weight": DRAWS.normal(0, 1, (24, 24)).astype(np.float32),
    "model.second.bias": DRAWS.normal(0, 1, 24).astype(np.float32),
    "model.only_in_training": DRAWS.normal(0, 1, 24).astype(np.float32),
}
ZEROS = np.zeros(24, np.float32)


def audit(folder: Path, *biases: str) -> AuditReport:
    """Audits a program of two products, to both of which the same zeros are added, and these biases behind them."""
    values = {"zeros": ZEROS, "w1": SOURCE["model.first.weight"].T}
    values |= {"w2": SOURCE["model.second.weight"].T, **{one: SOURCE[one] for one in biases}}
    nodes = [helper.make_node("MatMul", ["x", "w1"], ["p1"])]
    nodes += [
        helper.make_node("Add", ["p1", "zeros"], ["s1"]),
        helper.make_node("Add", ["s1", biases[0]], ["b1"]),
        helper.make_node("MatMul", ["b1", "w2"], ["p2"]),
        helper.make_node("Add", ["p2", "zeros"], ["s2"]),
        helper.make_node("Add", ["s2", biases[-1]], ["y"]),
    ]
    sides = [helper.make_tensor_value_info(one, onnx.TensorProto.FLOAT, None) for one in "xy"]
    initializers = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "graph", sides[:1], sides[1:], initializers)
    onnx.save(helper.make_model(graph), str(folder / "model.onnx"))
    return Auditor(references(SOURCE), "float32").audit("onnx", folder / "model.onnx")


def test_zeros_before_the_bias(tmp_path: Path) -> None:
    report = audit(tmp_path, "model.first.bias", "model.second.bias")
    assert report.findings == ()
    assert report.missing == ("model.only_in_training",)


@pytest.mark.parametrize("kept", ["model.first.bias", "model.second.bias"])
def test_zeros_for_the_bias(kept: str, tmp_path: Path) -> None:
    """Both layers share the zeros: one has its bias behind them, the other has none."""
    (found,) = audit(tmp_path, kept).not_accounted
    assert found.name == "zeros"
