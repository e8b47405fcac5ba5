"""Tasks on modern architectures: processors in one file, images of unequal shape, BLIP's own generation loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch_runner import TorchRunner

from equipoise.fixtures.modern.folder import all_recipes, make_folder
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import Task, infer_task, load_samples
from equipoise.validators.tasks.shared.images import keeps_size

pytestmark = pytest.mark.transformers


def load(key: str, folder: Path) -> tuple[Task, ModelFolder, TorchRunner]:
    recipe = all_recipes()[key]
    make_folder(recipe, folder)
    model = ModelFolder(folder)
    return infer_task(model), model, TorchRunner(folder, recipe.class_name)


@pytest.mark.parametrize("key", all_recipes())
def test_task_is_inferred_from_every_folder(key: str, tmp_path: Path) -> None:
    make_folder(all_recipes()[key], tmp_path)
    assert infer_task(ModelFolder(tmp_path)).name == all_recipes()[key].task


def test_shapes_of_images(tmp_path: Path) -> None:
    """Depth Anything keeps the aspect ratio and does not pad: one shape in a batch, and both axes vary over the cases."""
    make_folder(all_recipes()["depth_anything depth-estimation"], tmp_path)
    model = ModelFolder(tmp_path)
    task = infer_task(model)
    shapes = {
        case.name: task.encode(model, case).arrays["pixel_values"].shape
        for case in task.cases(model, load_samples(task, model))
    }
    assert shapes == {
        "single": (1, 3, 42, 56),
        "batch": (3, 3, 42, 56),
        "large": (1, 3, 42, 70),
        "turned": (1, 3, 56, 42),
    }


def test_sizes_from_a_single_processor_file(tmp_path: Path) -> None:
    make_folder(all_recipes()["siglip zero-shot-image-classification"], tmp_path)
    assert (tmp_path / "processor_config.json").exists()
    assert not keeps_size(ModelFolder(tmp_path))


def test_answers_are_token_spans(tmp_path: Path) -> None:
    """LayoutLMv3 has logits of patches behind those of the tokens."""
    task, model, runner = load("layoutlmv3 document-question-answering", tmp_path)
    for case in task.cases(model, load_samples(task, model)):
        batch = task.encode(model, case)
        outputs = task.run(runner, model, batch)
        assert outputs["start_logits"].shape == batch.arrays["input_ids"].shape
        assert len(task.decisions(model, batch, outputs)) == 2 * len(batch.arrays["input_ids"])
        answers = [found[0]["answer"] for found in task.decode(model, batch, outputs)]
        for answer, words in zip(answers, batch.context["words"], strict=True):
            assert answer in " ".join(words)


@pytest.mark.parametrize("beams", [1, 3])
def test_blip_generates_the_tokens_of_its_own_generate(beams: int, tmp_path: Path) -> None:
    import torch

    task, model, runner = load("blip image-to-text", tmp_path)
    cases: Any = {case.name: case for case in task.cases(model, load_samples(task, model))}
    batch = task.encode(model, cases["batch" if beams == 1 else "beam"])
    options = {**batch.case.options, "num_beams": beams}
    object.__setattr__(batch.case, "options", options)
    images = torch.from_numpy(batch.arrays["pixel_values"])
    expected = runner.model.generate(images, max_new_tokens=4, num_beams=beams).numpy()
    found = task.run(runner, model, batch)["sequences"]
    assert np.array_equal(found, expected)
