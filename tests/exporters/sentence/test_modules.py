"""Modules of sentence-transformers folders: their numbers by hand, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from equipoise.convert.core.errors import CheckpointError
from equipoise.exporters.load_model import load_pytorch_model
from equipoise.exporters.sentence.modules import WITH_MODULES, read_sentence_modules
from equipoise.fixtures.sentence_models import DIMENSION, POOLING_KEYS, write_sentence_model

pytestmark = pytest.mark.transformers

IDS = np.array([[2, 7, 8, 9, 3], [2, 11, 3, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def pooled(mode: str, rows: Any) -> Any:
    """Returns the vector of one sentence from those of its tokens, padding left out."""
    order = np.arange(1, len(rows) + 1)[:, None]
    return {
        "cls": lambda: rows[0],
        "max": lambda: rows.max(0),
        "mean": lambda: rows.mean(0),
        "mean_sqrt_len_tokens": lambda: rows.sum(0) / np.sqrt(len(rows)),
        "weightedmean": lambda: (rows * order).sum(0) / order.sum(),
        "lasttoken": lambda: rows[-1],
    }[mode]()


def run(folder: Path) -> tuple[Any, Any]:
    """Returns the vectors of tokens and sentences."""
    model = load_pytorch_model(str(folder), "ElectraModel" + WITH_MODULES).eval()
    with torch.no_grad():
        found = model(input_ids=torch.tensor(IDS), attention_mask=torch.tensor(MASK))
    return found["last_hidden_state"].numpy(), found["sentence_embedding"].numpy()


@pytest.mark.parametrize("mode", POOLING_KEYS)
def test_pooling_by_hand(mode: str, tmp_path: Path) -> None:
    tokens, sentences = run(write_sentence_model(tmp_path / "model", (mode,), dense=False))
    for row, mask, found in zip(tokens, MASK, sentences, strict=True):
        vector = pooled(mode, row[mask == 1])
        np.testing.assert_allclose(found, vector / np.linalg.norm(vector), rtol=0, atol=1e-6)


def test_concatenation_and_dense_layer(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    modes = ("cls", "mean")
    folder = write_sentence_model(tmp_path / "model", modes)
    tokens, sentences = run(folder)
    dense = load_file(folder / "2_Dense" / "model.safetensors")
    rows = tokens[1][MASK[1] == 1]
    joined = np.concatenate([pooled(mode, rows) for mode in modes])
    vector = np.tanh(dense["linear.weight"] @ joined + dense["linear.bias"])
    np.testing.assert_allclose(sentences[1], vector / np.linalg.norm(vector), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("modules.json", ("models.Pooling", "models.WordWeights"), "WordWeights is not known here"),
        ("modules.json", ("sentence_transformers.models.Pooling", "own.Pooling"), "own.Pooling"),
        ("2_Dense/config.json", ("torch.nn.modules.activation.Tanh", "os.system"), "os.system"),
    ],
)
def test_unknown_modules_are_refused(
    file: str, change: tuple[str, str], message: str, tmp_path: Path
) -> None:
    folder = write_sentence_model(tmp_path / "model", ("mean",))
    path = folder / file
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(CheckpointError, match=message) as refused:
        read_sentence_modules(folder)
    assert "--graph body" in str(refused.value)


@pytest.mark.slow
def test_one_graph(cli: Callable[..., Any], tmp_path: Path) -> None:
    """The program is judged, its dense layer is traced to its file, and the folder has the library's modules."""
    model, out = write_sentence_model(tmp_path / "model", ("mean", "max")), tmp_path / "out"
    options = ("--cases", "padded", "--json")
    outcome = cli("export", model, out, "--to", "torch-export", *options)
    assert outcome.code == 0, outcome.out + outcome.err
    assert set(outcome.data["outputs"]) == {"last_hidden_state", "sentence_embedding"}
    assert outcome.data["outputs"]["sentence_embedding"]["shape"][1] == DIMENSION
    assert outcome.data["settings"]["graph"] == "sentence"
    assert outcome.data["class_name"] == "ElectraModel"
    (backend,) = outcome.data["verdict"]["backends"]
    assert not backend["audit"]["unknown"]
    assert not backend["audit"]["missing"]
    for name in ("modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"):
        assert (out / name).is_file()
    options = ("--graph", "body", "--force", "--no-validate", "--json")
    body = cli("export", model, out, "--to", "torch-export", *options)
    assert "sentence_embedding" not in body.data["outputs"]
    assert json.loads((out / "modules.json").read_text())[1]["path"] == "1_Pooling"
