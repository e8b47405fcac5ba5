"""Descriptions of checkpoints of known and unknown architectures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.survey import survey_checkpoint
from equipoise.fixtures.synthetic import write_small_bert, write_tensors

GOLDEN = Path(__file__).parent / "containers" / "golden"
REFUSED = ("complex32", "quantized", "sparse")
"""Tensors that no other container can hold; reading refuses them by name."""
WEIGHTS = sorted(
    path
    for path in GOLDEN.rglob("*")
    if path.suffix in (".msgpack", ".h5", ".index", ".safetensors", ".bin", ".pt")
    and "shard" not in path.name
    and not path.name.startswith(REFUSED)
)


def test_goldens_are_found() -> None:
    assert {path.suffix for path in WEIGHTS} >= {".msgpack", ".h5", ".index"}


@pytest.mark.parametrize("path", WEIGHTS, ids=[str(path.relative_to(GOLDEN)) for path in WEIGHTS])
def test_any_file_of_a_known_container(path: Path) -> None:
    checkpoint = open_checkpoint(path)
    found = survey_checkpoint(checkpoint)
    assert found.architecture is None
    assert found.problem == "no config.json next to the weights"
    assert found.layout == checkpoint.layout
    assert sum(count for count, _, _ in found.totals.values()) == len(checkpoint)
    assert sum(size for _, size in found.files) == sum(p.stat().st_size for p in checkpoint.files)


def test_the_class_that_fits_and_the_one_that_the_config_names(tmp_path: Path) -> None:
    folder = write_small_bert(tmp_path / "bert", "BertForNextSentencePrediction")
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForQuestionAnswering"]
    (folder / "config.json").write_text(json.dumps(config))
    found = survey_checkpoint(open_checkpoint(folder))
    assert found.architecture is not None
    assert (found.architecture.cls, found.architecture.named) == (
        "BertForNextSentencePrediction",
        "BertForQuestionAnswering",
    )
    assert found.architecture.fits
    assert found.oddities == (
        (
            "the config names BertForQuestionAnswering; "
            "the tensors are those of BertForNextSentencePrediction"
        ),
    )


def test_mismatches_are_counted(tmp_path: Path) -> None:
    folder = write_small_bert(tmp_path / "bert", "BertModel")
    tensors = {name: ref.read() for name, ref in open_checkpoint(folder).items()}
    del tensors["pooler.dense.bias"]
    tensors["adapter.weight"] = np.ones((2, 2), np.float32)
    write_tensors(folder / "model.safetensors", tensors)
    found = survey_checkpoint(open_checkpoint(folder)).architecture
    assert found is not None
    assert not found.fits
    assert (found.cls, found.unknown, found.missing) == (
        "BertModel",
        ("adapter.weight",),
        ("pooler.dense.bias",),
    )


def test_tensor_names_decide_the_layout_if_the_metadata_is_wrong(tmp_path: Path) -> None:
    folder = write_small_bert(tmp_path / "bert")
    tensors = {name: ref.read() for name, ref in open_checkpoint(folder).items()}
    write_tensors(folder / "model.safetensors", tensors, {"format": "tf"})
    found = survey_checkpoint(open_checkpoint(folder))
    assert found.layout == "pytorch"
    assert "the file says its layout is tensorflow; its names are pytorch's" in found.oddities


@pytest.mark.parametrize("to", ["tensorflow", "flax", "pytorch-bin"])
def test_ties_are_reported_in_every_layout(to: str, tmp_path: Path) -> None:
    convert(write_small_bert(tmp_path / "bert"), tmp_path / "out", to=to)
    found = survey_checkpoint(open_checkpoint(tmp_path / "out"))
    assert found.ties == {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }


def test_views_of_one_storage_are_ties_of_unknown_architectures() -> None:
    torch_files = [path for path in WEIGHTS if path.suffix == ".pt"]
    ties = [survey_checkpoint(open_checkpoint(path)).ties for path in torch_files]
    assert any(ties)


def test_totals_by_dtype(tmp_path: Path) -> None:
    tensors: dict[str, Any] = {
        "a": np.zeros((2, 3), np.float32),
        "b": np.zeros(5, np.int64),
        "c": np.zeros((0, 4), np.float32),
        "d": np.zeros((), np.float32),
    }
    found = survey_checkpoint(
        open_checkpoint(write_tensors(tmp_path / "x.safetensors", tensors, {}))
    )
    assert found.totals == {"int64": (1, 5, 40), "float32": (3, 7, 28)}
    assert found.layout is None
