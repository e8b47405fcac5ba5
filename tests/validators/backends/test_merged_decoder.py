"""Both decoders in one ONNX file: the look inside sees the modules of the branch that a pass takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
helper = pytest.importorskip("onnx.helper")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx_faults import clip_after, plant
from task_models import ROOT

from equipoise.validators.backends.programs._onnx_modules import ModuleRecorder, inline_branches
from equipoise.validators.core.request import Request
from equipoise.validators.export.export import ExportRequest, export_model
from equipoise.validators.runtime.process import WorkerPool

BART = ROOT / "tasks" / "summarization"
MERGED = "decoder_model_merged.onnx"
SCOPE = "pkg.torch.onnx.name_scopes"


def write_switch(folder: Path) -> str:
    """Writes a graph that negates its input, or doubles it in the module ``double``."""
    x, y = (helper.make_tensor_value_info(one, onnx.TensorProto.FLOAT, [3]) for one in "xy")
    flag = helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, [1])
    double = helper.make_node("Add", ["x", "x"], ["then/y"])
    double.metadata_props.add(key=SCOPE, value="['double', 'add']")
    branches = {
        f"{side}_branch": helper.make_graph(
            [node], side, [], [helper.make_tensor_value_info(f"{side}/y", 1, [3])]
        )
        for side, node in (
            ("then", double),
            ("else", helper.make_node("Neg", ["x"], ["else/y"])),
        )
    }
    switch = helper.make_node("If", ["flag"], ["y"], **branches)
    graph = helper.make_graph([switch], "graph", [x, flag], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "model.onnx"))
    return str(folder / "model.onnx")


def test_each_branch_is_recorded_when_it_is_taken(tmp_path: Path) -> None:
    file = write_switch(tmp_path)
    records: list[dict[str, Any]] = []
    recorder = ModuleRecorder(
        file, ["y"], lambda model, folder: onnxruntime.InferenceSession(model), records
    )
    x = np.array([1, 2, 3], np.float32)
    for flag, wanted, paths in (
        (True, 2 * x, ["double"]),
        (False, -x, []),
        (True, 2 * x, ["double"]),
    ):
        records.clear()
        inputs = {"x": x, "flag": np.array([flag])}
        assert recorder(inputs)["y"].tolist() == wanted.tolist()
        assert [one["path"] for one in records if one["path"]] == paths
        plain = onnxruntime.InferenceSession(file).run(["y"], inputs)
        assert plain[0].tolist() == wanted.tolist()


def test_a_branch_that_no_input_decides_stays(tmp_path: Path) -> None:
    graph = onnx.load(write_switch(tmp_path)).graph
    inline_branches(graph, {})
    assert [node.op_type for node in graph.node] == ["If"]
    inline_branches(graph, {"flag": False})
    assert [node.op_type for node in graph.node] == ["Neg", "Identity"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, workers: WorkerPool) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "bart"
    options = {"merged": True}
    request = ExportRequest(
        Request(BART), folder, "onnx", ways=["dynamo"], judged=False, options=options
    )
    export_model(request, workers)
    return folder


@pytest.mark.transformers
@pytest.mark.slow
def test_a_correct_decoder(exported: Path, cli: Callable[..., Any]) -> None:
    outcome = cli(
        "bisect", BART, exported, "--backends", "onnx", "--case", "greedy-cache", "--json"
    )
    assert outcome.code == 0, outcome.err
    (result,) = outcome.data
    names = [point["path"] for point in result["depth"]]
    assert any(name.startswith("model.decoder.layers.1.") for name in names)
    assert not [point for point in result["depth"] if point["beyond"]]


@pytest.mark.transformers
@pytest.mark.slow
@pytest.mark.parametrize(("branch", "step"), [("else_branch", 1), ("then_branch", 2)])
def test_a_fault_in_one_branch(
    branch: str, step: int, exported: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    """A clip without a name behind the first layer norm of the decoder, in the first pass or in those that continue."""

    def change(graph: Any) -> None:
        (switch,) = (node for node in graph.node if node.op_type == "If")
        (inner,) = (one.g for one in switch.attribute if one.name == branch)
        clip_after("model.decoder.layernorm_embedding")(inner)

    faulty = shutil.copytree(exported, tmp_path / "faulty")
    plant(exported / MERGED, faulty / MERGED, change)
    outcome = cli("bisect", BART, faulty, "--backends", "onnx", "--case", "greedy-cache", "--json")
    assert outcome.code == 1, outcome.err
    first = outcome.data[0]["divergence"]
    assert first["after"] == "model.decoder.layernorm_embedding"
    assert first["before"].startswith("model.decoder.layers.0")
    assert first["step"] == step
