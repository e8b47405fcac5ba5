"""Weights of one's own Keras models, with and without a model of transformers in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_models
import numpy as np
import pytest

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.core.errors import CheckpointError
from equipoise.validators.runtime.process import WorkerProcess

pytestmark = pytest.mark.oracle

SOURCES = ("own.h5", "checkpoint", "saved")


@pytest.mark.parametrize("kind", ["layers", "heads"])
def test_keras_loads_what_is_written(kind: str, oracle: WorkerProcess, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    expected = oracle.call(keras_models.__file__, "save", kind=kind, folder=str(folder))
    convert(folder / "own.h5", tmp_path / "out", to="tensorflow-h5")
    file = str(tmp_path / "out" / "tf_model.h5")
    found = oracle.call(keras_models.__file__, "load", kind=kind, file=file)
    np.testing.assert_array_equal(found, expected)


def test_an_order_of_layers_is_not_made_up(oracle: WorkerProcess, tmp_path: Path) -> None:
    """Keras would read two layers of one shape in the wrong order, without an error."""
    folder = tmp_path / "model"
    oracle.call(keras_models.__file__, "save", kind="layers", folder=str(folder))
    for source in ("checkpoint", "saved"):
        with pytest.raises(CheckpointError, match="the order of layers and weights"):
            convert(folder / source, tmp_path / "out", to="tensorflow-h5")
        convert(folder / source, tmp_path / source, to="tensorflow-safetensors")
        found = open_checkpoint(tmp_path / source).in_names_of_files()
        stored = open_checkpoint(folder / "own.h5").in_names_of_files()
        assert found.keys() == stored.keys()
        for name, ref in stored.items():
            assert found[name].read().tobytes() == ref.read().tobytes()


def test_two_heads_of_one_leaf_name(
    oracle: WorkerProcess, cli: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    oracle.call(keras_models.__file__, "save", kind="heads", folder=str(folder))
    config = tmp_path / "config.json"
    config.write_text(
        '{"model_type": "bert", "vocab_size": 19, "hidden_size": 8, "intermediate_size": 12, '
        '"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 11}'
    )
    for source in SOURCES:
        assert cli("diff", folder / source, folder / source).code == 0
        command = ("convert", folder / source, tmp_path / "out", "--to", "pytorch")
        refused = cli(*command, "--config", config)
        assert refused.code == 2
        assert "4 tensors are unknown to BertModel" in refused.err
        allowed = [f"--allow={head}/*=my own head" for head in ("intent", "sentiment")]
        done = cli(*command, "--config", config, *allowed, "--force")
        assert done.code == 0, done.err
        word = open_checkpoint(tmp_path / "out")["embeddings.word_embeddings.weight"]
        stored = open_checkpoint(folder / source).in_layout("tensorflow")
        name = next(one for one in stored if one.endswith("word_embeddings/weight"))
        assert word.read().tobytes() == stored[name].read().tobytes()
    assert cli("diff", folder / "own.h5", folder / "saved").code == 0
