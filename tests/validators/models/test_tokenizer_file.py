"""`tokenizer.json` says what a text's tokens are, whatever transformers builds from the vocabulary beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from equipoise.validators.models.folder import ModelFolder

pytestmark = pytest.mark.transformers
CLASSIFIER = Path(__file__).parents[3] / "fixtures" / "tasks" / "text-classification"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"post_processor": None}, [8, 78, 69]),
        ({"longest": 3}, [2, 8, 1, 1, 3]),
    ],
)
def test_wordpiece(change: dict[str, Any], expected: list[int], tmp_path: Path) -> None:
    """Special tokens around a text and the longest word are the file's; lower case is the config's, as in 4.57.6."""
    from tokenizers import Tokenizer

    folder = tmp_path / "model"
    shutil.copytree(CLASSIFIER, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    if "longest" in change:
        content["model"]["max_input_chars_per_word"] = change["longest"]
    else:
        content.update(change)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    found = ModelFolder(folder).tokenizer("A wonderful film")["input_ids"]
    assert found == expected
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("a wonderful film").ids
    assert found == theirs
