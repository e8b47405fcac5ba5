"""Every target fulfils the contract of targets, and each of its strategies exports an equivalent program."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from equipoise.convert.core import plugins
from equipoise.exporters import target
from equipoise.exporters.target import TARGETS, find_target, target_names, target_reference
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.runtime.remote import RemoteModel

pytestmark = pytest.mark.transformers

MODEL = Path(__file__).parents[3] / "fixtures" / "tasks" / "text-classification"
NAME = "BertForSequenceClassification"


def tokens(rows: int, length: int, padding: str = "") -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    token_ids = np.random.default_rng(rows * length).integers(5, 60, (rows, length))
    mask = np.ones((rows, length), np.int64)
    if padding == "left":
        mask[:, : length // 3] = 0
    elif padding == "right":
        mask[:, -(length // 3) :] = 0
    return {"input_ids": token_ids, "attention_mask": mask}


@pytest.mark.parametrize("name", target_names())
def test_contract(name: str) -> None:
    target = find_target(name)
    assert target.name == name
    assert TARGETS.module(name).__name__.rpartition(".")[2] == name.replace("-", "_")
    assert target.program
    assert target.extra
    assert target.needs
    assert target.ways


def test_targets_from_entry_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A target from an entry point works like a built-in one; a worker process loads it by its file."""
    file = tmp_path / "theirs.py"
    file.write_text("from equipoise.exporters.targets.onnx import TARGET\n")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("theirs", "theirs", "equipoise.targets")
    monkeypatch.setattr(plugins, "entry_points", lambda **group: [point])
    TARGETS.refresh()
    try:
        assert "theirs" in target_names()
        assert find_target("theirs") is find_target("onnx")
        assert target_reference("theirs") == str(file)
        assert target_reference("onnx") == "onnx"
        assert find_target(str(file)) is find_target("onnx")
    finally:
        monkeypatch.undo()
        TARGETS.refresh()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "way"),
    [
        (name, way)
        for name in target_names()
        for way in find_target(name).ways
        if not target.has_fixed_sizes(find_target(name))
    ],
)
def test_dynamic_shapes(
    name: str,
    way: str,
    workers: WorkerPool,
    make_program: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    """Exported at (2, 7), the program is right at (1, 1), (3, 33), the maximum length, and with padding on either side."""
    make_program(name, way, MODEL, NAME, tmp_path, **tokens(2, 7))
    file = tmp_path / find_target(name).program
    truth = RemoteModel(workers.get("pytorch"), "pytorch", NAME, MODEL, threads=1)
    program = RemoteModel(workers.get(name), name, "", file, threads=1)
    for batch in (
        tokens(1, 1),
        tokens(3, 33),
        tokens(2, 40),  # as many as the model has positions
        tokens(3, 12, "left"),
        tokens(3, 12, "right"),
    ):
        expected, found = truth.run(batch)["logits"], program.run(batch)["logits"]
        # The runtimes have functions like tanh of their own, right to a few units in the last place.
        np.testing.assert_allclose(found, expected, rtol=0, atol=4e-6)
    truth.drop()
    program.drop()
