"""ViLT with all patches gives the results of transformers' own model, which samples patches at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from equipoise.exporters.patches.vilt import NOTE, patch_vilt
from equipoise.fixtures.modern.folder import all_recipes, make_folder

pytestmark = pytest.mark.transformers


def load_model(folder: Path) -> Any:
    if not folder.exists():
        make_folder(all_recipes()["vilt visual-question-answering"], folder)
    return transformers.ViltForQuestionAnswering.from_pretrained(folder).eval()


def images(*sizes: tuple[int, int]) -> dict[str, Any]:
    """Returns images in the upper left corner of a padded batch, and their pixel mask."""
    random = np.random.default_rng(1)
    height, width = np.max(sizes, axis=0).tolist()
    mask = torch.zeros(len(sizes), height, width, dtype=torch.long)
    for row, (high, wide) in zip(mask, sizes, strict=True):
        row[:high, :wide] = 1
    pixels = random.standard_normal((len(sizes), 3, height, width)).astype(np.float32)
    ids = torch.from_numpy(random.integers(5, 60, (len(sizes), 7)))
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.from_numpy(pixels),
        "pixel_mask": mask,
    }


@pytest.mark.parametrize(
    "sizes", [[(32, 32)], [(40, 48), (24, 40), (32, 32)], [(8, 56), (56, 8)], [(8, 8), (16, 8)]]
)
def test_same_answers(sizes: list[tuple[int, int]], tmp_path: Path) -> None:
    plain, patched = load_model(tmp_path / "vilt"), load_model(tmp_path / "vilt")
    assert patch_vilt(patched) == [NOTE]
    given = images(*sizes)
    with torch.no_grad():
        expected, found = plain(**given).logits, patched(**given).logits
    assert torch.allclose(found, expected, rtol=0, atol=2e-6)


def test_other_models_are_unchanged(tmp_path: Path) -> None:
    """Models whose config limits the number of patches, and models without ViLT's embeddings, are left alone."""
    model = load_model(tmp_path / "vilt")
    model.config.max_image_length = 9
    assert patch_vilt(model) == []
    assert patch_vilt(torch.nn.Linear(2, 2)) == []
