"""Folders as people have them, compared with what transformers 4.57.6 and 5 make of them."""

from __future__ import annotations

import json
from pathlib import Path

import auto_loading
import pytest
from safetensors.numpy import save_file

from equipoise.cli.main import run
from equipoise.convert import convert
from equipoise.fixtures.synthetic import expand_class, make_tensors
from equipoise.validators.runtime.process import WorkerProcess

SIZES = {
    "vocab_size": 19,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 11,
}
CLASS = "BertForSequenceClassification"
CONFIGS = {
    "no model type": {"num_labels": 5},
    "own model type": {"model_type": "my-bert", "architectures": [CLASS], "num_labels": 5},
    "labels": {"model_type": "bert", "num_labels": 5, "id2label": {"0": "no", "1": "yes"}},
    "vocabulary": {"model_type": "bert", "num_labels": 5, "vocab_size": 99},
}


@pytest.fixture(params=CONFIGS)
def converted(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tensors = make_tensors(expand_class("bert", CLASS, {**SIZES, "num_labels": 5}))
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text(json.dumps({**SIZES, **CONFIGS[request.param]}))
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma"): one for name, one in tensors.items()
    }
    save_file(old, source / "model.safetensors", {"format": "pt"})
    convert(source, tmp_path / "tf", to="tensorflow")
    convert(tmp_path / "tf", tmp_path / "made", to="pytorch")
    return tmp_path / "made"


EXPECTED = {
    "model_type": "bert",
    "num_labels": 5,
    "vocab_size": 19,
    "class": CLASS,
    "problems": [],
}


@pytest.mark.oracle
def test_transformers_4_loads_what_is_written(converted: Path, oracle: WorkerProcess) -> None:
    found = oracle.call(auto_loading.__file__, "load_classifier", folder=str(converted))
    assert found == EXPECTED


@pytest.mark.transformers
def test_transformers_5_loads_what_is_written(converted: Path) -> None:
    assert auto_loading.load_classifier(str(converted)) == EXPECTED


@pytest.mark.oracle
def test_the_epoch_that_tensorflow_calls_the_latest(oracle: WorkerProcess, tmp_path: Path) -> None:
    epochs, final = tmp_path / "epochs", tmp_path / "final"
    oracle.call(auto_loading.__file__, "save_epochs", folder=str(epochs), final=str(final))
    assert len(list(epochs.glob("*.index"))) == 3
    manifest = convert(epochs, tmp_path / "made", to="pytorch")
    assert "'cp-0003.ckpt'" in manifest.values["notes"][0]
    assert run(["diff", str(tmp_path / "made"), str(final)]) == 0
    (epochs / "checkpoint").write_text('model_checkpoint_path: "cp-0001.ckpt"\n')
    convert(epochs, tmp_path / "first", to="pytorch")
    assert run(["diff", str(tmp_path / "first"), str(final)]) == 1
