"""The trained models of ``fixtures/tasks`` are complete, small, and give the recorded answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from equipoise.fixtures.training.answers import compute_answer, load_pretrained
from equipoise.fixtures.training.folder import MAX_BYTES, TASKS

FOLDERS = sorted(path for path in TASKS.iterdir() if path.is_dir())
RECIPES = TASKS.parent / "training" / "recipes"
pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore")]
each = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def samples(folder: Path) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    return read


def test_each_recipe_has_its_folder() -> None:
    recipes = {path.stem.replace("_", "-") for path in RECIPES.glob("[a-z]*.py")}
    assert recipes == {folder.name for folder in FOLDERS}


@each
def test_a_folder_is_small(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MAX_BYTES


@each
def test_weights_are_complete_and_none_is_unexpected(folder: Path) -> None:
    import transformers

    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    _, report = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report


@each
def test_answers_match_samples_json(folder: Path) -> None:
    entries = samples(folder)
    assert 3 <= len(entries) <= 5
    assert [compute_answer(folder, entry["inputs"]) for entry in entries] == [
        entry["expected"] for entry in entries
    ]


def test_sentences_on_one_topic_have_similar_embeddings() -> None:
    import torch

    folder = TASKS / "feature-extraction"
    texts = [entry["inputs"]["text"] for entry in samples(folder)]
    tokenizer, model = (
        load_pretrained("AutoTokenizer", folder),
        load_pretrained("AutoModel", folder),
    )
    means = [
        model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts
    ]
    near = torch.nn.functional.cosine_similarity(
        torch.stack(means)[:, None], torch.stack(means), -1
    )
    assert near[0, 1] > 0.7
    assert near[0, 2] < 0.3


def test_all_kinds_of_tokenizers_occur() -> None:
    kinds = set()
    for folder in FOLDERS:
        path = folder / "tokenizer.json"
        if path.is_file():
            model = json.loads(path.read_text(encoding="utf-8"))["model"]
            kinds.add((model["type"], bool(model.get("byte_fallback"))))
    assert kinds >= {("WordPiece", False), ("BPE", False), ("BPE", True), ("Unigram", False)}
