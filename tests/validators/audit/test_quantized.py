"""Integers with a scale are traced to the weight that they stand for, up to one step of the scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audited import references

onnx = pytest.importorskip("onnx")
helper = pytest.importorskip("onnx.helper")
numpy_helper = pytest.importorskip("onnx.numpy_helper")

from equipoise.validators.audit.audit import Auditor
from equipoise.validators.audit.content.report import AuditReport

WEIGHT = np.random.default_rng(0).normal(0, 1, (8, 24)).astype(np.float32)
SCALE = np.float32(np.abs(WEIGHT).max() / 127)
INTEGERS = np.rint(WEIGHT / SCALE).astype(np.int8)


def audit(integers: np.ndarray, folder: Path) -> AuditReport:  # type: ignore[type-arg]
    initializers = [
        numpy_helper.from_array(integers, "w_quantized"),
        numpy_helper.from_array(SCALE, "w_scale"),
        numpy_helper.from_array(np.array(0, np.int8), "w_zero_point"),
    ]
    graph = helper.make_graph([], "graph", [], [], initializers)
    onnx.save(helper.make_model(graph), str(folder / "model.onnx"))
    return Auditor(references({"w": WEIGHT}), "float32").audit("onnx", folder / "model.onnx")


def test_one_step_of_the_scale_is_allowed(tmp_path: Path) -> None:
    towards_zero = np.trunc(WEIGHT / SCALE).astype(np.int8)
    assert (towards_zero != INTEGERS).any()
    for integers in (INTEGERS, towards_zero):
        report = audit(integers, tmp_path)
        assert report.findings == ()
        (found,) = report.explained
        assert (found.sources, found.how) == (("w",), "quantized to int8 with its scale")


def test_more_than_one_step_is_a_finding(tmp_path: Path) -> None:
    wrong = INTEGERS.copy()
    wrong[3, 5] += 3
    (found,) = audit(wrong, tmp_path).not_accounted
    assert (found.name, found.nearest) == ("w_quantized", "w")
    assert found.problem.startswith("1 of 192 elements differ")
