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
        ({"input_ids": (4, 7), "attention_mask": (3, 7)}, "input_ids of 3 x 7"),
        ({"input_ids": (1, 5)}, "takes attention_mask|input_ids of 3 x 7"),
    ],
)
def test_inputs_that_do_not_fit(inputs: dict[str, tuple[int, int]], message: str) -> None:
    """Longer texts, more rows of a step or of one input alone, and a shorter text of a program that takes no mask."""
    runner = FixedSizeRunner(Recorder(), SHAPES, 0, [])
    arrays = {name: np.ones(shape, np.int64) for name, shape in inputs.items()}
    with pytest.raises(InputError, match=message):
        runner.run(arrays)
    with pytest.raises(InputError, match=message):
        runner.step(arrays)


def test_many_rows_run_in_several_passes() -> None:
    """Eight rows of a program of three: the last pass has two, and a row more that is cut off again."""

    class Doubling(Recorder):
        passes = 0

        def run(self, inputs: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
            assert inputs["input_ids"].shape == (3, 7)
            self.passes += 1
            return {"tokens": inputs["input_ids"], "logits": 2 * inputs["input_ids"][:, :2]}

    program = Doubling()
    ids = np.arange(40).reshape(8, 5)
    outputs = FixedSizeRunner(program, SHAPES, 9, ["tokens"]).run(
        {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    )
    assert program.passes == 3
    assert outputs["tokens"].tolist() == ids.tolist()
    assert outputs["logits"].tolist() == (2 * ids[:, :2]).tolist()


def test_two_batches_are_cut_each_to_its_own() -> None:
    """Two texts for a program of five, one image for a program of three; the scores have a row an image and a column a text."""

    class Contrastive(Recorder):
        accepts = frozenset({"input_ids", "pixel_values"})

        def run(self, inputs: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
            scores = inputs["pixel_values"].mean(1)[:, None] + inputs["input_ids"].sum(1)[None]
            return {"logits_per_image": scores, "text_embeds": inputs["input_ids"][:, :4]}

    shapes: dict[str, list[int | str]] = {"input_ids": [5, "length"], "pixel_values": [3, 9]}
    inputs = {"input_ids": np.arange(14).reshape(2, 7), "pixel_values": np.ones((1, 9))}
    outputs = FixedSizeRunner(Contrastive(), shapes, 0, []).run(inputs)
    assert outputs["logits_per_image"].tolist() == [[1 + 21, 1 + 70]]
    assert outputs["text_embeds"].tolist() == [[0, 1, 2, 3], [7, 8, 9, 10]]
    shapes["pixel_values"] = [5, 9]
    with pytest.raises(InputError, match="exported for pixel_values of 5 x 9"):
        FixedSizeRunner(Contrastive(), shapes, 0, []).run(inputs)


def test_the_hint_fits_the_size() -> None:
    runner = FixedSizeRunner(Recorder(), SHAPES, 0, [])
    rows = {"input_ids": np.ones((4, 7), np.int64), "attention_mask": np.ones((3, 7), np.int64)}
    with pytest.raises(InputError, match="fewer labels or samples at once"):
        runner.run(rows)
    with pytest.raises(InputError, match="a shorter input"):
        runner.run({name: np.ones((3, 8), np.int64) for name in SHAPES})
    with pytest.raises(InputError, match="the program takes attention_mask"):
        runner.run({"input_ids": np.ones((3, 7), np.int64)})


@pytest.mark.slow
@pytest.mark.transformers
def test_both_batches_are_fixed(tmp_path: Path) -> None:
    """CLIP's images and texts: two images, and all the labels of two samples."""
    pytest.importorskip("onnxruntime")
    from equipoise.cli.main import run as command
    from equipoise.validators.pipeline import run_pipeline

    folder, out = TASKS / "zero-shot-image-classification", tmp_path / "out"
    arguments = ["export", str(folder), str(out), "--to", "onnx", "--no-validate", "--batch", "2"]
    assert command(arguments) == 0
    inputs = json.loads((out / "artifact.json").read_text())["inputs"]
    samples = json.loads((folder / "samples.json").read_text())[:2]
    labels = sum(len(one["inputs"]["candidate_labels"]) for one in samples)
    assert inputs["pixel_values"]["shape"][0] == 2
    assert inputs["input_ids"]["shape"][0] == labels
    sample = {"image": str(folder / "circle.png"), "candidate_labels": ["circle", "square"]}
    found, expected = (
        run_pipeline("zero-shot-image-classification", one, [sample]) for one in (out, folder)
    )
    assert _rounded(found) == _rounded(expected)


@pytest.mark.slow
@pytest.mark.transformers
def test_batch_is_the_number_of_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text with three labels is three rows of the model: the program has the two rows that are asked for."""
    pytest.importorskip("onnxruntime")
    from equipoise.cli.main import run as command
    from equipoise.validators.pipeline import run_pipeline

    folder, out = TASKS / "zero-shot-classification", tmp_path / "out"
    arguments = ["export", str(folder), str(out), "--to", "onnx", "--no-validate", "--batch"]
    assert command([*arguments, "1"]) == 2
    assert "a sample gives 2 or 3 or 4 rows" in capsys.readouterr().err
    assert command([*arguments, "2"]) == 0
    inputs = json.loads((out / "artifact.json").read_text())["inputs"]
    assert {one["shape"][0] for one in inputs.values()} == {2}
    sample = {"text": "The owl eats mice.", "candidate_labels": ["animals", "sea", "food"]}
    found, expected = (
        run_pipeline("zero-shot-classification", one, [sample]) for one in (out, folder)
    )
    assert _rounded(found) == _rounded(expected)


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
