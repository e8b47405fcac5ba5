"""Programs of fixed sizes answer for shorter texts what the model answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.convert.core.errors import InputError
from equipoise.validators.runtime.fixed_sizes import FixedSizeRunner

TASKS = Path(__file__).parents[3] / "fixtures" / "tasks"
SHAPES: dict[str, list[int | str]] = {"input_ids": [3, 7], "attention_mask": [3, 7]}


class Recorder:
    """Stands in for a program: keeps its inputs, and returns the same tokens."""

    accepts = frozenset(SHAPES)
    caches = False

    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}

    def run(self, inputs: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        self.inputs = dict(inputs)
        return {"tokens": inputs["input_ids"], "logits": np.arange(21).reshape(3, 7)}

    def step(self, *arguments: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def test_inputs_are_padded_and_outputs_cut() -> None:
    program = Recorder()
    runner = FixedSizeRunner(program, SHAPES, 9, ["tokens"])
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    ids = np.array([[4, 5, 6, 7, 8], [4, 5, 6, 9, 9]])
    outputs = runner.run({"input_ids": ids, "attention_mask": mask})
    assert program.inputs["input_ids"].tolist() == [
        [4, 5, 6, 7, 8, 9, 9],
        [4, 5, 6, 9, 9, 9, 9],
        [4, 5, 6, 7, 8, 9, 9],
    ]
    assert program.inputs["attention_mask"].tolist() == [
        [1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0],
    ]
    assert outputs["tokens"].tolist() == ids.tolist()
    assert outputs["logits"].tolist() == [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12, 13]]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": (1, 8), "attention_mask": (1, 8)}, "input_ids of 3 x 7"),
        ({"input_ids": (4, 7), "attention_mask": (4, 7)}, "input_ids of 3 x 7"),
        ({"input_ids": (1, 5)}, "input_ids of 3 x 7"),
    ],
)
def test_inputs_that_do_not_fit(inputs: dict[str, tuple[int, int]], message: str) -> None:
    """Longer texts, more rows, and a shorter text of a program that takes no mask."""
    runner = FixedSizeRunner(Recorder(), SHAPES, 0, [])
    arrays = {name: np.ones(shape, np.int64) for name, shape in inputs.items()}
    with pytest.raises(InputError, match=message):
        runner.run(arrays)
    with pytest.raises(InputError, match=message):
        runner.step(arrays)


@pytest.mark.slow
@pytest.mark.transformers
@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_program_of_fixed_sizes(task: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from equipoise.cli.main import run as command
    from equipoise.validators.pipeline import run_pipeline

    out = str(tmp_path / "out")
    sizes = ["--batch", "2", "--sequence", "39"]
    assert command(["export", str(TASKS / task), out, "--to", "onnx", "--no-validate", *sizes]) == 0
    samples = json.loads((TASKS / task / "samples.json").read_text())[:2]
    texts = [one["inputs"] for one in samples]
    found, expected = (run_pipeline(task, folder, texts) for folder in (out, TASKS / task))
    assert _rounded(found) == _rounded(expected)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return value
